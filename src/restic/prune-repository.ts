import { AgentError, isAgentError, throwIfAborted } from '../core/index.ts'
import type { FileKind } from './backend.ts'
import { BitSet } from './bit-set.ts'
import type { BlobOpener, BlobStore } from './blob-store.ts'
import type { IndexStore } from './index-store.ts'
import { PackTable } from './pack-table.ts'
import { ServerKept } from './pinned-packs.ts'
import { type ListedPack, planPrune, type PruneFacts, type PrunePlan } from './prune-plan.ts'
import { removeOrHide } from './remove-or-hide.ts'
import { repack } from './repack.ts'
import type { PruneOptions, PruneReport, SnapshotStore } from './repository.ts'
import type { RepositoryLock } from './repository-lock.ts'
import { encodeRows, planIndex, rowsOf } from './rewrite-index.ts'
import type { SealedFiles } from './sealed-files.ts'
import { findUsedBlobs } from './used-blobs.ts'

/** restic's own. */
const DEFAULT_UNUSED = { percent: 5 } as const
/** Removals between two looks at the lock's file, beside those of its own timer. */
const LOOK_EVERY = 256

export type PruneParts = {
  readonly files: SealedFiles
  /** Of this prune alone. */
  readonly index: IndexStore
  readonly blobs: BlobStore
  readonly snapshots: SnapshotStore
  readonly opener: BlobOpener
  readonly random: (size: number) => Uint8Array
  readonly packSize: number
  /** The exclusive lock; undefined for a dry run. */
  readonly lock: RepositoryLock | undefined
}

/**
 * Frees the space of what no snapshot needs. A kill at any moment loses nothing: what is wanted of a pack is stored and indexed elsewhere before the index files that name
 * the pack go, and these before the pack. What a cut leaves is second copies and packs in no index, and goes with the next one. See docs/adr/0015-prune.md.
 */
export async function pruneRepository(parts: PruneParts, options: PruneOptions): Promise<PruneReport> {
  const survey = await takeSurvey(parts, options)
  const { facts, kept } = survey
  const limits = {
    mostUnused: options.mostUnused ?? DEFAULT_UNUSED,
    mostRepacked: options.mostRepackedBytes ?? Number.POSITIVE_INFINITY,
    packSize: parts.packSize,
  }
  let plan = planPrune(facts, limits)
  // What would go is asked for once; whatever has to stay leads to another plan.
  while (await kept.askFor(plan, options)) plan = planPrune(facts, limits)
  const { pinned, ...figures } = plan.figures
  const report = { snapshots: survey.snapshots.size, ...figures, kept: { ...pinned, until: kept.until } }
  if (parts.lock === undefined || plan.remove.length + plan.repack.length + plan.stray.length === 0) return report
  return await new PruneRun(parts, parts.lock, survey, options).execute(plan, report)
}

type Survey = {
  readonly facts: PruneFacts
  readonly kept: ServerKept
  readonly snapshots: ReadonlySet<string>
}

/** What is there and what is needed. */
async function takeSurvey({ files, index: store, blobs, snapshots }: PruneParts, options: PruneOptions): Promise<Survey> {
  const index = await store.whole(options)
  const table = new PackTable(index)
  const used = await findUsedBlobs({ index, blobs, snapshots: snapshots.list(options) }, options)
  const sizes = new Float64Array(table.count)
  const unreferenced: ListedPack[] = []
  for await (const { name, size } of files.backend.list('data', options)) {
    const row = table.find(name)
    if (row === undefined) unreferenced.push({ name, size })
    else sizes[row] = size
  }
  unreferenced.sort((a, b) => (a.name < b.name ? -1 : 1))
  const kept = new ServerKept(files.backend, table)
  // A locked index file that can be hidden stands in nobody's way.
  if (files.backend.locks === undefined) await kept.askForIndex(store.files, options)
  const facts = { index, table, used: used.records, sizes, unreferenced, pinned: kept.pinned, pinnedStray: kept.stray }
  return { facts, kept, snapshots: new Set(used.snapshots) }
}

/** One prune under the repository's exclusive lock. */
class PruneRun {
  readonly #parts: PruneParts
  readonly #lock: RepositoryLock
  readonly #survey: Survey
  readonly #options: PruneOptions
  /** Index files of its own. */
  readonly #made = new Set<string>()
  #removals = 0

  constructor(parts: PruneParts, lock: RepositoryLock, survey: Survey, options: PruneOptions) {
    this.#parts = parts
    this.#lock = lock
    this.#survey = survey
    this.#options = options
  }

  async execute(plan: PrunePlan, report: PruneReport): Promise<PruneReport> {
    const { table, sizes } = this.#survey.facts
    await this.#proveRemovable()
    await this.#repack(plan)
    const rows = [...plan.remove, ...plan.repack]
    const stuck = await this.#replaceIndex(rows)
    const doomed = rows
      .filter((row) => !stuck.has(row) && (sizes[row] ?? 0) > 0)
      .map((row) => ({ name: table.name(row), size: sizes[row] ?? 0 }))
    const packs = [...plan.stray, ...doomed]
    await this.#confirm()
    const refused = await this.#remove('data', packs)
    const left = [
      ...packs.filter(({ name }) => refused.has(name)),
      ...rows.filter((row) => stuck.has(row)).map((row) => ({ size: sizes[row] ?? 0 })),
    ]
    const leftBytes = left.reduce((sum, { size }) => sum + size, 0)
    return {
      ...report,
      freedBytes: report.freedBytes - leftBytes,
      kept: { ...report.kept, packs: report.kept.packs + left.length, bytes: report.kept.bytes + leftBytes },
    }
  }

  /** Before anything else is written: where nothing may be removed, each prune would only add to it. */
  async #proveRemovable(): Promise<void> {
    const { backend } = this.#parts.files
    // Such a server says by itself what it keeps, and would keep the proof as well.
    if (backend.lockedUntil !== undefined) return
    const name = await this.#parts.files.save('index', Buffer.from('{"packs":[]}\n'), this.#options)
    try {
      await backend.remove({ kind: 'index', name })
    } catch (error) {
      if (!isAgentError(error, 'CONFLICT', 'CONFIG', 'AUTH')) throw error
      throw new AgentError(
        'CONFIG',
        `${backend.url} does not let anything be removed, so its space cannot be freed from here: ${error.message}`,
        {
          subject: backend.url,
          next: 'If it is kept append-only, prune it where removing is allowed; nothing else was tried.',
          retry: 'never',
          cause: error,
        },
      )
    }
  }

  async #repack(plan: PrunePlan): Promise<void> {
    if (plan.repack.length === 0) return
    const { facts } = this.#survey
    const { keptBytes } = plan.figures.repacked
    let done = 0
    const made = await repack(
      {
        ...this.#parts,
        index: facts.index,
        table: facts.table,
        signal: this.#options.signal,
        onPack: (bytes) => this.#options.onProgress?.('repacking', (done += bytes), keptBytes),
      },
      plan,
    )
    for (const name of made) this.#made.add(name)
  }

  /** Rows that an index file names which could not be removed: their packs stay. */
  async #replaceIndex(rows: readonly number[]): Promise<BitSet> {
    const { facts, kept } = this.#survey
    const { table, index } = facts
    const stuck = new BitSet(table.count)
    const gone = new BitSet(table.count)
    for (const row of rows) gone.add(row)
    const { files } = this.#parts.index
    const rewrite = planIndex({ table, files, gone, stay: kept.indexFiles })
    for (const json of encodeRows({ index, table }, rewrite.rows)) {
      throwIfAborted(this.#options)
      this.#made.add(await this.#parts.files.save('index', json, this.#options))
    }
    await this.#confirm()
    for (const name of await this.#remove(
      'index',
      rewrite.superseded.map((each) => ({ name: each, size: 0 })),
    )) {
      const range = files.get(name)
      if (range !== undefined) for (const row of rowsOf(table, range)) stuck.add(row)
    }
    return stuck
  }

  /** The lock is ours, and nobody who does not care for locks has added anything since the survey. */
  async #confirm(): Promise<void> {
    const { backend } = this.#parts.files
    await this.#lock.verify(this.#options)
    for await (const { name } of backend.list('snapshot', this.#options))
      if (!this.#survey.snapshots.has(name)) throw this.#changed(`the snapshot ${name}`)
    for await (const { name } of backend.list('index', this.#options)) {
      if (!this.#parts.index.files.has(name) && !this.#made.has(name)) throw this.#changed(`the index file ${name}`)
    }
  }

  #changed(what: string): AgentError {
    const { url } = this.#parts.files.backend
    return new AgentError('CONFLICT', `The repository ${url} was written to while it was pruned: ${what} is new.`, {
      subject: url,
      next: 'Find out which program does not respect its lock; nothing that is needed was removed. Then prune again.',
    })
  }

  /** Each once, several at a time where each waits for a far server. Names of those that the server keeps. */
  async #remove(kind: FileKind, all: readonly ListedPack[]): Promise<ReadonlySet<string>> {
    const { backend } = this.#parts.files
    const refused = new Set<string>()
    const left = all.toReversed()
    const total = all.reduce((sum, { size }) => sum + size, 0)
    let done = 0
    const lane = async (): Promise<void> => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) {
        throwIfAborted(this.#options)
        if (++this.#removals % LOOK_EVERY === 0) await this.#lock.verify(this.#options)
        try {
          const file = { kind, name: next.name }
          // Its own new index files, kept as well, name all that a superseded one is needed for.
          if (kind === 'index') await removeOrHide(backend, file, this.#options)
          else await backend.remove(file, this.#options)
        } catch (error) {
          throwIfAborted(this.#options)
          if (!isAgentError(error, 'CONFLICT', 'CONFIG')) throw error
          refused.add(next.name)
        }
        done += next.size
        if (kind === 'data') this.#options.onProgress?.('removing', done, total)
      }
    }
    await settle(Array.from({ length: Math.min(all.length, lanesOf(backend.savesAtOnce)) }, lane))
    return refused
  }
}

const lanesOf = (savesAtOnce: number | undefined): number => (savesAtOnce === undefined ? 1 : savesAtOnce * 2)

/** All of them have ended when it does. */
async function settle(works: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(works)).find((each) => each.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
