import { read } from 'node:fs'
import { promisify } from 'node:util'
import { closeDescriptor, openDescriptor } from '../core/index.ts'

const readAt = promisify(read)

/** Packs whose descriptors are kept: a restore reads blocks of the same few packs, forward through each. */
const MOST_OPEN = 8

type OpenPack = { readonly opened: Promise<number>; readers: number; forgotten: boolean }

/**
 * Keeps the packs that were read last open, so that a block costs a read rather than an open, a read and a close. Descriptors by number: a `FileHandle` that
 * is let go without being closed ends the process, and there is no moment at which the last reader of a place is known. Of one place; closed with it.
 */
export class OpenPacks implements AsyncDisposable {
  readonly #packs = new Map<string, OpenPack>()
  readonly #closing = new Set<Promise<void>>()

  /** Fills `into` from `offset` of the file at `path`; bytes read, fewer where the file ends. Errors of the system as they are. */
  async read(path: string, offset: number, into: Uint8Array): Promise<number> {
    const pack = this.#take(path)
    pack.readers++
    try {
      const descriptor = await pack.opened
      let filled = 0
      while (filled < into.length) {
        const { bytesRead } = await readAt(descriptor, into, filled, into.length - filled, offset + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return filled
    } finally {
      pack.readers--
      this.#closeIfUnused(pack)
    }
  }

  /** The file goes away or is another one from now on; what is being read of the old one is read to its end. */
  forget(path: string): void {
    const pack = this.#packs.get(path)
    if (pack === undefined) return
    this.#packs.delete(path)
    pack.forgotten = true
    this.#closeIfUnused(pack)
  }

  /** Closes everything once it is read. Usable again afterwards. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const path of this.#packs.keys()) this.forget(path)
    while (this.#closing.size > 0) await Promise.all(this.#closing)
  }

  #take(path: string): OpenPack {
    const known = this.#packs.get(path)
    if (known !== undefined) {
      // Put behind the others, as the one used last.
      this.#packs.delete(path)
      this.#packs.set(path, known)
      return known
    }
    const pack: OpenPack = { opened: openDescriptor(path), readers: 0, forgotten: false }
    this.#packs.set(path, pack)
    // One that cannot be opened is tried again by whoever comes next.
    pack.opened.catch(() => {
      if (this.#packs.get(path) === pack) this.#packs.delete(path)
    })
    for (const oldest of this.#packs.keys()) {
      if (this.#packs.size <= MOST_OPEN) break
      this.forget(oldest)
    }
    return pack
  }

  #closeIfUnused(pack: OpenPack): void {
    if (!pack.forgotten || pack.readers > 0) return
    pack.forgotten = false
    const closing = pack.opened.then(closeDescriptor, () => undefined).finally(() => this.#closing.delete(closing))
    this.#closing.add(closing)
    // A descriptor that was only read from loses nothing by an error at its end.
    closing.catch(() => undefined)
  }
}
