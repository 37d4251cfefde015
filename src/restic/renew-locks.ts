import { AgentError, type Clock, isAgentError, type Log, throwIfAborted } from '../core/index.ts'
import { CONFIG_FILE, type FileLocks, type FileRef } from './backend.ts'
import { BitSet } from './bit-set.ts'
import { DATA, TREE } from './blob-records.ts'
import type { BlobStore } from './blob-store.ts'
import { type BlobIds, idBytes, idHex } from './ids.ts'
import type { IndexStore } from './index-store.ts'
import { type LockEnds, memoryLockEnds } from './lock-ends.ts'
import type { RenewOptions, RenewReport, ShortSnapshot, SnapshotStore } from './repository.ts'
import type { SealedFiles } from './sealed-files.ts'
import { SlotPool } from './slot-pool.ts'
import type { StoredSnapshot } from './snapshot.ts'

/** Questions under way at once, and trees. */
const ASKED_AT_ONCE = 8
const TREES_AT_ONCE = 4
/** Blobs looked up in one go. */
const LOOKED_UP = 2048
const DAY = 24 * 3_600_000
/** How far ahead locks are made longer: of how long they are, and at least and most. A fifth more storage for what is let go, and a fifth of the days between two requests for a file. */
const AHEAD = 0.2
const LEAST_AHEAD = DAY
const MOST_AHEAD = 10 * DAY

export type RenewParts = {
  readonly files: SealedFiles
  readonly locks: FileLocks
  readonly index: IndexStore
  readonly blobs: BlobStore
  readonly snapshots: SnapshotStore
  readonly clock: Clock
  readonly log: Log
  readonly openEnds: (() => Promise<LockEnds>) | undefined
}

/** A snapshot and until when what it needs is to be kept, ms since 1970. */
type Young = { readonly snapshot: StoredSnapshot; readonly wanted: number }

/**
 * Has the server keep everything that the wanted snapshots need until each of them is as old as files are kept (docs/adr/0016-renewal-of-locks.md). What was found kept is remembered, by file and by
 * tree, so a tree is read and a file is asked for only when what is known of it is not enough. Memory: a few trees. To be called under a lock of the repository.
 */
export async function renewLocks(parts: RenewParts, options: RenewOptions): Promise<RenewReport> {
  using ends = (await parts.openEnds?.()) ?? memoryLockEnds()
  await ends.sweep()
  await parts.index.refresh(options)
  return await new Renewal(parts, ends, options).run()
}

class Renewal {
  readonly #parts: RenewParts
  readonly #ends: LockEnds
  readonly #options: RenewOptions
  readonly #now: number
  readonly #aheadMs: number
  readonly #asking = new SlotPool(ASKED_AT_ONCE)
  readonly #reading = new SlotPool(TREES_AT_ONCE)
  /** Files and trees under way, by name. */
  readonly #underWay = new Map<string, Promise<number>>()
  /** Of a dry run, what was found too short: packs by number, trees by name. */
  readonly #shortPacks = new SparseBits()
  readonly #shortTrees = new Map<string, number>()
  readonly #short: ShortSnapshot[] = []
  #asked = 0
  #lengthened = 0

  constructor(parts: RenewParts, ends: LockEnds, options: RenewOptions) {
    this.#parts = parts
    this.#ends = ends
    this.#options = options
    this.#now = parts.clock.now().getTime()
    this.#aheadMs = options.aheadMs ?? Math.min(MOST_AHEAD, Math.max(LEAST_AHEAD, parts.locks.forMs * AHEAD))
  }

  async run(): Promise<RenewReport> {
    const young = await this.#young()
    const [newest] = young
    if (newest !== undefined) await this.#common(newest.wanted)
    for (const each of young) {
      const found = await this.#secure(each)
      if (found !== undefined) this.#short.push(found)
    }
    return { snapshots: young.length, asked: this.#asked, lengthened: this.#lengthened, short: this.#short }
  }

  /**
   * Those that are to be protected still, the one that is to be so the longest first: what it shares with others is asked for once. A snapshot is made when it says so, or where it was copied to later, when its file was
   * saved; never later than now, so that no wrong clock locks anything for years.
   */
  async #young(): Promise<readonly Young[]> {
    const { files, locks } = this.#parts
    const young: Young[] = []
    for await (const { name } of files.backend.list('snapshot', this.#options)) {
      const snapshot = await this.#snapshot(name)
      if (snapshot === undefined || this.#options.wants?.(snapshot) === false) continue
      const made = Date.parse(snapshot.time)
      const file: FileRef = { kind: 'snapshot', name: snapshot.id }
      const least = Math.min(this.#now, Number.isNaN(made) ? 0 : made) + locks.forMs
      let own = this.#ends.get('snapshot', snapshot.id)
      try {
        if (own === undefined || (own < least && least > this.#now)) own = await this.#file(file, least > this.#now ? least : 0, 0)
      } catch (error) {
        // Forgotten between listing and asking.
        if (!isAgentError(error, 'NOT_FOUND')) throw error
        continue
      }
      const wanted = Math.min(Math.max(least, own), this.#now + locks.forMs)
      if (wanted > this.#now) young.push({ snapshot, wanted })
    }
    return young.sort((a, b) => b.wanted - a.wanted)
  }

  /** Undefined where it was forgotten between listing and reading, or is damaged. */
  async #snapshot(id: string): Promise<StoredSnapshot | undefined> {
    try {
      return await this.#parts.snapshots.get(id, this.#options)
    } catch (error) {
      if (isAgentError(error, 'NOT_FOUND')) return undefined
      if (!isAgentError(error, 'INTEGRITY')) throw error
      this.#damaged(id, error)
      this.#short.push({ snapshot: id, time: '', wanted: '', until: undefined, problem: error.message })
      return undefined
    }
  }

  /** What every snapshot needs. */
  async #common(wanted: number): Promise<void> {
    const { backend } = this.#parts.files
    const files: FileRef[] = [CONFIG_FILE]
    for (const kind of ['key', 'index'] as const) {
      for await (const { name } of backend.list(kind, this.#options)) files.push({ kind, name })
    }
    await inLanes(files, ASKED_AT_ONCE, async (file) => {
      try {
        await this.#file(file, wanted)
      } catch (error) {
        // A key that somebody takes away meanwhile.
        if (!isAgentError(error, 'NOT_FOUND')) throw error
      }
    })
  }

  /** Undefined when all is kept long enough now. What is damaged keeps nothing else from being kept. */
  async #secure({ snapshot, wanted }: Young): Promise<ShortSnapshot | undefined> {
    const { id, time, tree } = snapshot
    const facts = { snapshot: id, time, wanted: new Date(wanted).toISOString() }
    try {
      const own = this.#ends.get('snapshot', id) ?? 0
      const until = Math.min(await this.#tree(tree, wanted), own)
      return until >= wanted ? undefined : { ...facts, until: new Date(until).toISOString() }
    } catch (error) {
      throwIfAborted(this.#options)
      if (!isAgentError(error, 'NOT_FOUND', 'INTEGRITY')) throw error
      this.#damaged(id, error)
      return { ...facts, until: undefined, problem: error.message }
    }
  }

  #damaged(snapshot: string, { message: reason }: AgentError): void {
    this.#parts.log.error('a snapshot cannot be protected', { repository: this.#parts.files.backend.url, snapshot, reason })
  }

  /** Until when at least all is kept that a tree needs. NOT_FOUND, INTEGRITY. */
  #tree(id: string, wanted: number): Promise<number> {
    const known = this.#ends.get('tree', id) ?? this.#shortTrees.get(id)
    if (known !== undefined && (known >= wanted || this.#shortTrees.has(id))) return Promise.resolve(known)
    return this.#once(`tree ${id}`, async () => {
      const { nodes, packs } = await this.#held(this.#reading, () => this.#read(id))
      let until = Number.POSITIVE_INFINITY
      const found = (end: number): void => void (until = Math.min(until, end))
      await inLanes([...packs], ASKED_AT_ONCE, async ([number, name]) => found(await this.#pack(number, name, wanted)))
      await inLanes(nodes, TREES_AT_ONCE, async (subtree) => found(await this.#tree(subtree, wanted)))
      this.#ends.set('tree', id, until)
      if (until < wanted) this.#shortTrees.set(id, until)
      return until
    })
  }

  /** The trees below a tree, and the packs that hold it and its blocks. */
  async #read(id: string): Promise<{ readonly nodes: readonly string[]; readonly packs: ReadonlyMap<number, string> }> {
    const { blobs, index, clock } = this.#parts
    const packs = new Map<number, string>()
    const own = idBytes(id)
    const look = (type: typeof DATA | typeof TREE, count: number, at: (index: number) => Uint8Array): Promise<void> =>
      index.ask((all) => {
        for (let number = 0; number < count; number++) {
          const location = all.find(type, at(number))
          if (location === undefined) throw missing(type, at(number), id)
          if (!packs.has(location.pack)) packs.set(location.pack, idHex(all.packId(location.pack)))
        }
      }, this.#options)
    const entries = await blobs.tree(id, this.#options)
    await look(TREE, 1, () => own)
    const lookAll = async (content: BlobIds): Promise<void> => {
      for (let from = 0; from < content.length; from += LOOKED_UP) {
        throwIfAborted(this.#options)
        await look(DATA, Math.min(LOOKED_UP, content.length - from), (number) => content.at(from + number))
        if (from > 0) await clock.sleep(0)
      }
    }
    for (const { content } of entries) if (content !== undefined) await lookAll(content)
    return { nodes: [...new Set(entries.flatMap(({ subtree }) => subtree ?? []))], packs }
  }

  async #pack(number: number, name: string, wanted: number): Promise<number> {
    const known = this.#ends.get('data', name)
    if (known !== undefined && this.#shortPacks.has(number)) return known
    const until = await this.#file({ kind: 'data', name }, wanted)
    if (until < wanted) this.#shortPacks.add(number)
    return until
  }

  /** Until when a file is kept: `wanted` at least, unless this is a dry run. NOT_FOUND. */
  async #file(file: FileRef, wanted: number, aheadMs = this.#aheadMs): Promise<number> {
    const kind = file.kind === 'lock' ? 'config' : file.kind
    const known = this.#ends.get(kind, file.name)
    if (known !== undefined && known >= wanted) return known
    return this.#once(`${kind} ${file.name}`, () =>
      this.#held(this.#asking, async () => {
        const { locks } = this.#parts
        this.#asked++
        let until: number
        if (this.#options.dryRun === true) {
          until = (await locks.end(file, this.#options))?.getTime() ?? 0
          if (until < wanted) this.#lengthened++
        } else {
          const kept = await locks.keep(file, new Date(wanted), new Date(wanted + aheadMs), this.#options)
          until = kept.until.getTime()
          if (kept.lengthened) this.#lengthened++
        }
        this.#ends.set(kind, file.name, until)
        this.#options.onProgress?.(this.#asked, this.#lengthened)
        return until
      }),
    )
  }

  /** Who comes while it is under way waits for it. */
  #once(name: string, work: () => Promise<number>): Promise<number> {
    const known = this.#underWay.get(name)
    if (known !== undefined) return known
    const begun = work().finally(() => this.#underWay.delete(name))
    this.#underWay.set(name, begun)
    return begun
  }

  async #held<T>(pool: SlotPool, work: () => Promise<T>): Promise<T> {
    const slot = await pool.acquire(this.#options)
    try {
      return await work()
    } finally {
      pool.release(slot)
    }
  }
}

/** A set of whole numbers that lie in a few places together: a bit each there. */
class SparseBits {
  readonly #parts = new Map<number, BitSet>()

  has(number: number): boolean {
    return this.#parts.get(Math.floor(number / 65_536))?.has(number % 65_536) === true
  }

  add(number: number): void {
    const at = Math.floor(number / 65_536)
    const part = this.#parts.get(at) ?? new BitSet(65_536)
    this.#parts.set(at, part)
    part.add(number % 65_536)
  }
}

/** All of them have ended when it does, and none begins after one that failed. */
async function inLanes<T>(all: readonly T[], most: number, work: (each: T) => Promise<void>): Promise<void> {
  let next = 0
  let failed = false
  const lane = async (): Promise<void> => {
    while (!failed && next < all.length) {
      const each = all[next++]
      try {
        if (each !== undefined) await work(each)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const ended = await Promise.allSettled(Array.from({ length: Math.min(most, all.length) }, lane))
  const first = ended.find((each) => each.status === 'rejected')
  if (first !== undefined) throw first.reason
}

const missing = (type: typeof DATA | typeof TREE, id: Uint8Array, tree: string): AgentError =>
  new AgentError('INTEGRITY', `The ${type === TREE ? 'tree' : 'block'} ${idHex(id)} that the tree ${tree} needs is in no index file.`, {
    next: 'Run "vcb check", and forget the restore points that it names.',
  })
