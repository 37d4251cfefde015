import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, ensureDirectory, isMissing, type Log, removeFile } from '../../core/index.ts'
import { names, readSet, RUN, setNumbers, setPath, writeSet } from './cache-set.ts'
import { DamagedRun } from './damaged-run.ts'
import { IndexRun, type RunFacts } from './index-run.ts'
import { type MemoryStream, RunStream } from './record-streams.ts'
import { writeRun } from './run-writer.ts'

/** Runs are merged when the largest of them is at most so many times the others together. */
const RATIO = 4
/** Files that no set names are somebody's who is still writing them, until they are so old. */
const ORPHAN_MS = 3_600_000

export type IndexCacheParts = {
  /** Of one repository; made when the first run is saved. */
  readonly directory: string
  readonly clock: Clock
  readonly random: (size: number) => Uint8Array
  readonly log: Log
}

/**
 * The runs of one repository on the local disk, as this process uses them. Several processes may use a directory at once: each change is a new set under the next
 * number, and who comes second goes on with runs that only it can see. Calls do not overlap.
 */
export class IndexCache {
  readonly #parts: IndexCacheParts
  /** The set that this process began from or wrote last. */
  #number = 0
  /** Another process has changed the cache meanwhile: nothing is published any more. */
  #overtaken = false
  /** Names of the runs of our set, by which files of ours may be removed. */
  #published = new Set<string>()

  constructor(parts: IndexCacheParts) {
    this.#parts = parts
  }

  /** Where `CompleteTrees` are kept. */
  get completePath(): string {
    return join(this.#parts.directory, 'complete')
  }

  /** The runs of the newest set that are there whole and whose index files are all wanted. The caller closes them. */
  async open(wanted: ReadonlySet<string>): Promise<IndexRun[]> {
    const { directory, log } = this.#parts
    for (let attempt = 1; ; attempt++) {
      const number = (await setNumbers(directory)).at(-1)
      this.#number = number ?? 0
      this.#overtaken = false
      this.#published = new Set()
      if (number === undefined) return []
      const opened: IndexRun[] = []
      try {
        const runs = await readSet(directory, number)
        if (runs === undefined) {
          log.warn('the cache of a repository index is damaged and is made anew', { cache: setPath(directory, number) })
          return []
        }
        for (const facts of runs) this.#published.add(facts.name)
        for (const facts of runs) if (facts.files.every((file) => wanted.has(file))) await this.#open(facts, opened)
        return opened
      } catch (error) {
        for (const run of opened) await run[Symbol.asyncDispose]()
        // A set that was replaced between the look and the reading takes its runs along.
        if (!isMissing(error)) throw error
        if (attempt === 3) return []
      }
    }
  }

  /** Saves what is in memory as a run beside those in use. Returns the new run, open. Node's own errors, and CAPACITY. */
  async add(memory: MemoryStream, files: readonly string[], inUse: readonly IndexRun[]): Promise<IndexRun> {
    await ensureDirectory(this.#parts.directory)
    return await this.#made(inUse, [memory], files)
  }

  /** Merges runs where that is worth it; those in use afterwards. DamagedRun. Replaced ones stay open: they are the caller's to close. */
  async compact(inUse: readonly IndexRun[]): Promise<readonly IndexRun[]> {
    const merged = worthMerging(inUse)
    if (merged.length === 0) return inUse
    const left = inUse.filter((each) => !merged.includes(each))
    const streams = merged.map((each) => new RunStream(each))
    const files = merged.flatMap(({ facts }) => facts.files)
    return [...left, await this.#made(left, streams, files)]
  }

  /** Makes a set of these runs alone: others were found damaged or are of index files that are gone. */
  async keep(inUse: readonly IndexRun[]): Promise<void> {
    const known = inUse.length === this.#published.size && inUse.every(({ facts }) => this.#published.has(facts.name))
    if (!known) await this.#publish(inUse, undefined)
  }

  async #open(facts: RunFacts, opened: IndexRun[]): Promise<void> {
    const { directory, log } = this.#parts
    try {
      opened.push(await IndexRun.open(directory, facts))
    } catch (error) {
      if (!(error instanceof DamagedRun)) throw error
      log.warn('a part of the cache of a repository index is damaged and is made anew', { cache: directory, reason: error.message })
    }
  }

  /** A new run, in a set with the others; closed when that fails. */
  async #made(others: readonly IndexRun[], streams: readonly (MemoryStream | RunStream)[], files: readonly string[]): Promise<IndexRun> {
    const { directory, random } = this.#parts
    const name = `run-${Buffer.from(random(16)).toString('hex')}`
    const nonce = Buffer.from(random(4)).readUInt32LE()
    const run = await IndexRun.open(directory, await writeRun(directory, { name, nonce, files }, streams))
    try {
      await this.#publish([...others, run], run)
    } catch (error) {
      await run[Symbol.asyncDispose]()
      throw error
    }
    return run
  }

  async #publish(inUse: readonly IndexRun[], made: IndexRun | undefined): Promise<void> {
    const { directory } = this.#parts
    const number = this.#number + 1
    const set = { number, runs: inUse.map(({ facts }) => facts) }
    if (this.#overtaken || !(await writeSet(directory, set)) || (await setNumbers(directory)).some((other) => other > number)) {
      if (!this.#overtaken && made !== undefined) this.#parts.log.debug('another process saved the index cache first', { cache: directory })
      // What is open stays readable; nobody else needs it.
      if (made !== undefined) await removeFile(join(directory, made.facts.name))
      this.#overtaken = true
      return
    }
    this.#number = number
    const before = this.#published
    this.#published = new Set(inUse.map(({ facts }) => facts.name))
    for (const name of before) if (!this.#published.has(name)) await removeFile(join(directory, name))
    for (const other of await setNumbers(directory)) if (other < number) await removeFile(setPath(directory, other))
    await this.#sweep()
  }

  /** Removes what processes that died have left. */
  async #sweep(): Promise<void> {
    const { directory, clock } = this.#parts
    const before = clock.now().getTime() - ORPHAN_MS
    for (const name of await names(directory)) {
      if (this.#published.has(name) || !(RUN.test(name) || name.endsWith('.tmp'))) continue
      const path = join(directory, name)
      try {
        if ((await stat(path)).mtimeMs < before) await removeFile(path)
      } catch (error) {
        if (!isMissing(error)) throw error
      }
    }
  }
}

/** Small runs together, up to the largest that is not much larger than they are. */
function worthMerging(runs: readonly IndexRun[]): readonly IndexRun[] {
  const bySize = runs.toSorted((a, b) => a.facts.records - b.facts.records)
  let sum = 0
  let end = 0
  for (const [index, { facts }] of bySize.entries()) {
    if (index > 0 && facts.records <= sum * RATIO) end = index + 1
    sum += facts.records
  }
  return bySize.slice(0, end)
}
