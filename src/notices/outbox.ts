import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Clock, ensureDirectory, fromErrno, isMissing, type Log, removeFile, renameFile, writeFileAtomic } from '../core/index.ts'
import { type Occurrence, occurrenceText } from './occurrence.ts'

/** An occurrence on disk, and the file it is in. */
export type Waiting = { readonly file: string; readonly occurrence: Occurrence }

/** Waiting occurrences of a channel at most, and their bytes; the oldest go first, and are counted. */
const MOST_WAITING = 1000
export const MOST_BYTES = 64 * 1024 * 1024
/** Files set aside at most, of a channel. */
const MOST_ASIDE = 10

/** When it was added, ms since 1970; a number that keeps those of one moment in order; its bytes; the occurrence's id. */
const NAME = /^(\d{15})-\d{6}-(\d{8})-[0-9a-f]+\.json$/u
const KINDS: ReadonlySet<string> = new Set<Occurrence['kind']>(['run', 'missedRpo', 'job', 'digest'])
const ASIDE = '.unreadable'
const HALF = /\.\d+\.tmp$/u

export type OutboxOptions = { readonly clock: Clock; readonly log: Log; readonly mostWaiting?: number | undefined }

/**
 * What channels have still to tell, in files of the state directory, so that it outlives a restart and a server that is away. One directory a channel, one file an
 * occurrence; names sort by age. Any process may add; one at a time delivers.
 */
export class Outbox {
  readonly #directory: string
  readonly #clock: Clock
  readonly #log: Log
  readonly #mostWaiting: number
  #count = 0

  constructor(directory: string, { clock, log, mostWaiting = MOST_WAITING }: OutboxOptions) {
    this.#directory = directory
    this.#mostWaiting = mostWaiting
    this.#clock = clock
    this.#log = log
  }

  /** Durable when it resolves; idempotent by the occurrence's id within a channel, as long as it waits. Errors: CAPACITY, CONFIG. */
  async add(channel: string, occurrence: Occurrence): Promise<void> {
    const directory = join(this.#directory, channel)
    await ensureDirectory(directory)
    const names = await this.#names(channel)
    if (names.some((name) => name.endsWith(`-${occurrence.id}.json`))) return
    const text = occurrenceText(occurrence)
    const bytes = Buffer.byteLength(text)
    await this.#makeRoom(channel, names, bytes)
    const parts = [digits(this.#clock.now().getTime(), 15), digits(this.#count++ % 1_000_000, 6), digits(bytes, 8), occurrence.id]
    const name = `${parts.join('-')}.json`
    await writeFileAtomic(join(directory, name), text)
  }

  /** The oldest of a channel, at most `most`. A file that cannot be understood is set aside and logged. */
  async waiting(channel: string, most: number): Promise<readonly Waiting[]> {
    const found: Waiting[] = []
    for (const name of await this.#names(channel)) {
      if (found.length >= most) break
      const file = join(this.#directory, channel, name)
      const occurrence = await this.#read(channel, file)
      if (occurrence !== undefined) found.push({ file, occurrence })
    }
    return found
  }

  /** How many wait. */
  async size(channel: string): Promise<number> {
    return (await this.#names(channel)).length
  }

  /** They were delivered. Those that were dropped before them have been told with them: their count begins anew. */
  async delivered(channel: string, waiting: readonly Waiting[]): Promise<void> {
    for (const { file } of waiting) await removeFile(file)
    await removeFile(this.#droppedFile(channel))
  }

  /** What was added before a moment is given up. */
  async giveUpBefore(channel: string, limit: Date, reason: string): Promise<void> {
    const isOld = (name: string): boolean => Number(NAME.exec(name)?.[1]) < limit.getTime()
    const old = (await this.#names(channel)).filter(isOld)
    if (old.length > 0) await this.#drop(channel, old, reason)
    // Half written by a process that was killed.
    const half = await namesIn(join(this.#directory, channel), (name) => HALF.test(name) && isOld(name.replace(HALF, '')))
    for (const name of half) await removeFile(join(this.#directory, channel, name))
  }

  /** How many were dropped since the last delivery. */
  async dropped(channel: string): Promise<number> {
    try {
      const count = Number(await readFile(this.#droppedFile(channel), 'utf8'))
      return Number.isSafeInteger(count) ? count : 0
    } catch (error) {
      if (isMissing(error)) return 0
      throw error
    }
  }

  async #makeRoom(channel: string, names: readonly string[], bytes: number): Promise<void> {
    let [count, all] = [names.length + 1, names.reduce((sum, name) => sum + sizeIn(name), bytes)]
    let gone = 0
    for (; gone < names.length && (count > this.#mostWaiting || all > MOST_BYTES); gone++) {
      all -= sizeIn(names[gone] ?? '')
      count--
    }
    if (gone > 0) await this.#drop(channel, names.slice(0, gone), 'too many wait')
  }

  async #drop(channel: string, names: readonly string[], reason: string): Promise<void> {
    const before = await this.dropped(channel)
    await writeFileAtomic(this.#droppedFile(channel), String(before + names.length))
    for (const name of names) await removeFile(join(this.#directory, channel, name))
    this.#log.error('notices were dropped', { notice: channel, count: names.length, reason })
  }

  #droppedFile(channel: string): string {
    return join(this.#directory, channel, 'dropped')
  }

  async #read(channel: string, file: string): Promise<Occurrence | undefined> {
    let text: string
    try {
      text = await readFile(file, 'utf8')
    } catch (error) {
      // Dropped meanwhile.
      if (isMissing(error)) return undefined
      throw fromErrno(error, file) ?? error
    }
    try {
      const occurrence = JSON.parse(text) as Occurrence
      if (occurrence.version === 1 && KINDS.has(occurrence.kind)) return occurrence
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
    }
    await renameFile(file, `${file}${ASIDE}`)
    this.#log.error('a waiting notice cannot be understood and was set aside', { notice: channel, file: `${basename(file)}${ASIDE}` })
    const aside = await namesIn(join(this.#directory, channel), (name) => name.endsWith(ASIDE))
    for (const name of aside.slice(0, Math.max(0, aside.length - MOST_ASIDE))) await removeFile(join(this.#directory, channel, name))
    return undefined
  }

  #names(channel: string): Promise<readonly string[]> {
    return namesIn(join(this.#directory, channel), (name) => NAME.test(name))
  }
}

/** Sorted; none of a directory that is not there. */
async function namesIn(directory: string, wanted: (name: string) => boolean): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).filter(wanted).toSorted()
  } catch (error) {
    if (isMissing(error)) return []
    throw fromErrno(error, directory) ?? error
  }
}

const digits = (number: number, count: number): string => String(number).padStart(count, '0')

const sizeIn = (name: string): number => Number(NAME.exec(name)?.[2] ?? 0)
