import { AgentError, type BlockSource, KIB } from '../../core/index.ts'

const PAGE = 64 * KIB
/** 2 MiB of a volume. */
const MOST_PAGES = 32

/** What is read of a volume again and again, its FAT and its directories: pages that were read last. Memory is bounded. */
export class FatPages {
  readonly size: number
  readonly #source: BlockSource
  readonly #pages = new Map<number, Promise<Buffer>>()

  constructor(source: BlockSource) {
    this.#source = source
    this.size = source.size
  }

  /** INTEGRITY where that is not in the volume. A read that has begun goes on for whoever else wants it. */
  async bytes(offset: number, length: number): Promise<Buffer> {
    if (offset < 0 || offset + length > this.size) throw beyond()
    const page = Math.floor(offset / PAGE)
    const at = offset - page * PAGE
    if (at + length <= PAGE) return (await this.#page(page)).subarray(at, at + length)
    const bytes = Buffer.alloc(length)
    for (let done = 0; done < length; ) {
      const from = offset + done
      const part = (await this.#page(Math.floor(from / PAGE))).subarray(from % PAGE, (from % PAGE) + length - done)
      part.copy(bytes, done)
      done += part.length
    }
    return bytes
  }

  #page(number: number): Promise<Buffer> {
    const known = this.#pages.get(number)
    const page = known ?? this.#read(number)
    // The newest comes last.
    this.#pages.delete(number)
    this.#pages.set(number, page)
    const [oldest] = this.#pages.keys()
    if (oldest !== undefined && this.#pages.size > MOST_PAGES) this.#pages.delete(oldest)
    return page
  }

  async #read(number: number): Promise<Buffer> {
    const page = Buffer.alloc(Math.min(PAGE, this.size - number * PAGE))
    try {
      await this.#source.read(number * PAGE, page)
      return page
    } catch (error) {
      this.#pages.delete(number)
      throw error
    }
  }
}

export const damaged = (why: string): AgentError =>
  new AgentError('INTEGRITY', `A FAT file system is damaged: ${why}.`, {
    next: 'Take its disk as a raw file to a repair tool (fsck.fat).',
  })

const beyond = (): AgentError => damaged('something lies beyond its end')
