import { BlobIndex, type BlobLocation } from './blob-index.ts'
import type { BlobPlace, BlobType } from './blob-records.ts'
import type { IndexRun } from './index-cache/index-run.ts'
import { MemoryStream } from './index-cache/record-streams.ts'
import { PackIds } from './pack-ids.ts'

/** Numbers of packs of runs begin here; below are those in memory. */
const FIRST_OF_RUNS = 2 ** 30

type UsedRun = { readonly run: IndexRun; readonly firstPack: number }

/** What is on its way from memory into a run. */
export type Leaving = { readonly stream: MemoryStream; readonly files: readonly string[] }

/**
 * Which blob lies where in a repository: what is new in memory, the rest in sorted runs on the local disk where there is a cache. A pack keeps its number as long as
 * the index lives, whatever moves. Look-ups may throw `DamagedRun`; `IndexStore.ask` mends that.
 */
export class RepositoryIndex {
  readonly #packs = new PackIds()
  #recent = new BlobIndex(this.#packs)
  /** Memory that is being saved, or could not be. */
  readonly #leaving: BlobIndex[] = []
  #runs: readonly UsedRun[] = []
  #nextPack = FIRST_OF_RUNS
  /** Every run there was: a pack number that somebody still holds must lead somewhere. */
  readonly #everRuns: UsedRun[] = []
  /** Index files whose blobs are in `#recent`, with their packs. */
  #files = new Map<string, readonly number[]>()

  constructor(runs: readonly IndexRun[]) {
    this.useRuns(runs)
  }

  /** Blobs in memory. */
  get recentCount(): number {
    return this.#recent.count
  }

  /** Index files that are in memory alone. */
  get recentFiles(): number {
    return this.#files.size
  }

  get count(): number {
    return this.#runs.reduce(
      (sum, { run }) => sum + run.facts.records,
      this.#leaving.reduce((sum, { count }) => sum + count, this.#recent.count),
    )
  }

  get memoryBytes(): number {
    return this.#runs.reduce(
      (sum, { run }) => sum + run.memoryBytes,
      this.#leaving.reduce((sum, each) => sum + each.memoryBytes, this.#recent.memoryBytes),
    )
  }

  get runs(): readonly IndexRun[] {
    return this.#runs.map(({ run }) => run)
  }

  /** The whole index where it is in memory. */
  get inMemory(): BlobIndex | undefined {
    return this.#runs.length === 0 && this.#leaving.length === 0 ? this.#recent : undefined
  }

  /** Packs that have been in memory. */
  get packCount(): number {
    return this.#packs.count
  }

  addPack(id?: Uint8Array): number {
    return this.#packs.add(id)
  }

  setPackId(pack: number, id: Uint8Array): void {
    this.#packs.set(pack, id)
  }

  /** A copy of a pack's id. */
  packId(pack: number): Buffer {
    if (pack < FIRST_OF_RUNS) return this.#packs.get(pack)
    const used = this.#everRuns.findLast(({ firstPack }) => firstPack <= pack)
    return used === undefined ? Buffer.alloc(0) : used.run.packId(pack - used.firstPack)
  }

  add(id: Uint8Array, place: BlobPlace, pack: number): void {
    this.#recent.add(id, place, pack)
  }

  /** The blobs of these packs are in an index file of the repository. */
  inFile(name: string, packs: readonly number[]): void {
    this.#files.set(name, packs)
  }

  has(type: BlobType, id: Uint8Array): boolean {
    if (this.#recent.has(type, id)) return true
    for (const index of this.#leaving) if (index.has(type, id)) return true
    for (const { run } of this.#runs) if (run.has(type, id)) return true
    return false
  }

  /** One place of a blob; undefined when there is none. */
  find(type: BlobType, id: Uint8Array): BlobLocation | undefined {
    const recent = this.#recent.find(type, id)
    if (recent !== undefined) return recent
    for (const index of this.#leaving) {
      const found = index.find(type, id)
      if (found !== undefined) return found
    }
    const found: BlobLocation[] = []
    for (const { run, firstPack } of this.#runs) {
      run.findAll(type, id, firstPack, found)
      if (found.length > 0) return found[0]
    }
    return undefined
  }

  /** Every place of a blob. */
  findAll(type: BlobType, id: Uint8Array): readonly BlobLocation[] {
    const found = [...this.#recent.findAll(type, id)]
    for (const index of this.#leaving) found.push(...index.findAll(type, id))
    for (const { run, firstPack } of this.#runs) run.findAll(type, id, firstPack, found)
    return found
  }

  /** Takes what index files hold out of the memory that is added to. It is found as before until `left`. */
  leave(): Leaving {
    const files = [...this.#files.keys()]
    const packs = [...this.#files.values()].flat()
    const leaving = this.#recent
    const stream = new MemoryStream(leaving, packs)
    const gone = new Set(packs)
    this.#recent = new BlobIndex(this.#packs)
    for (let record = 0; record < leaving.count && stream.records < leaving.count; record++) {
      const { id, location } = leaving.record(record)
      if (!gone.has(location.pack)) this.#recent.add(id, location, location.pack)
    }
    this.#files = new Map()
    this.#leaving.push(leaving)
    return { stream, files }
  }

  /** What left is in a run now: its memory is free. */
  left(run: IndexRun): void {
    this.#leaving.pop()
    this.useRuns([...this.runs, run])
  }

  /** From now on these runs count. */
  useRuns(runs: readonly IndexRun[]): void {
    this.#runs = runs.map((run) => {
      const known = this.#runs.find((used) => used.run === run)
      if (known !== undefined) return known
      const used = { run, firstPack: this.#nextPack }
      this.#nextPack += run.facts.packs
      this.#everRuns.push(used)
      return used
    })
  }

  /** Closes the runs; nothing can be looked up any more. */
  async close(): Promise<void> {
    for (const { run } of this.#everRuns) await run[Symbol.asyncDispose]()
    this.#everRuns.length = 0
    this.#runs = []
  }
}
