import type { BackupMode, RunRecord, VmRef } from '../core/index.ts'
import { type PastRun, vmOf, type VmRecord } from '../schedule/index.ts'
import type { Agent } from './agent.ts'

/** Whose points are known: as many as the catalog of a large site has. */
const POINTS = 300_000
/** Runs that may still matter for a next try, or say how long one takes. */
const RUNS = 100_000
const LOOK_BACK_MS = 62 * 24 * 3_600_000
/** So many of a job's runs of a VM are as many as there may be tries. */
const TRIES_KEPT = 32
/** So many of the last runs say how long the next one takes. */
const LENGTHS_KEPT = 5
/** A run that the end of its agent cut off is made up for, but not for ever. */
const INTERRUPTED_AT_MOST = 3
/** Runs of other processes may be written down a little later than they ended, ms. */
const LATE_MS = 10 * 60_000

type Good = { lastGoodAt: number; lastFullAt: number | undefined }

/**
 * What is known of earlier runs and points of all VMs, in memory: the catalog says which points there are, the history when their runs began and which ones made
 * none. By this proxy's clock where the history knows the run, because the snapshot's own time is the server's.
 */
export class VmRecords {
  readonly #agent: Pick<Agent, 'catalog' | 'history'>
  /** By VM and repository. */
  readonly #good = new Map<string, Good>()
  /** By job and VM, newest first. */
  readonly #tries = new Map<string, RunRecord[]>()
  /** By VM and mode, newest first, ms. */
  readonly #lengths = new Map<string, number[]>()
  readonly #noted = new Set<string>()
  #lookedAt: number

  private constructor(agent: Pick<Agent, 'catalog' | 'history'>, at: Date) {
    this.#agent = agent
    this.#lookedAt = at.getTime()
  }

  /** As of a moment: what is later does not count. */
  static async open(agent: Pick<Agent, 'catalog' | 'history'>, at: Date): Promise<VmRecords> {
    const records = new VmRecords(agent, at)
    const since = new Date(at.getTime() - LOOK_BACK_MS)
    const runs = await agent.history.find({ since, until: new Date(at.getTime() + 1), limit: RUNS })
    const begunAt = new Map(runs.map(({ run, vm, begunAt: begun }) => [`${run} ${vm.instanceUuid}`, Date.parse(begun)]))
    for (const point of await agent.catalog.find({ until: at.toISOString(), limit: POINTS })) {
      const time = begunAt.get(`${point.run} ${point.instanceUuid}`) ?? Date.parse(point.time)
      records.#add(keyOf(point), point.repository, point.mode, time)
    }
    for (const record of runs.toReversed()) records.note(record)
    return records
  }

  /** A run that has ended. Idempotent. */
  note(record: RunRecord): void {
    const { run, vm, job, mode, result, begunAt, endedAt, repository } = record
    const id = `${run} ${vmOf(record)}`
    if (this.#noted.has(id)) return
    this.#noted.add(id)
    if (result === 'succeeded' && mode !== undefined) {
      this.#add(vmOf(record), repository, mode, Date.parse(begunAt))
      const key = `${vmOf(record)} ${mode}`
      const length = Math.max(0, Date.parse(endedAt) - Date.parse(begunAt))
      this.#lengths.set(key, [length, ...(this.#lengths.get(key) ?? [])].slice(0, LENGTHS_KEPT))
    }
    // What somebody asked for by hand is no try of the moment that was due.
    if (job === undefined || (record.dueAt === undefined && result !== 'succeeded')) return
    const key = `${job} ${vmOf({ vm })}`
    this.#tries.set(key, [record, ...(this.#tries.get(key) ?? [])].slice(0, TRIES_KEPT))
  }

  /** Notes what other processes have done since. */
  async refresh(now: Date): Promise<void> {
    // A clock that stepped back must not hide what ends now.
    const since = new Date(Math.min(this.#lookedAt, now.getTime()) - LATE_MS)
    this.#lookedAt = now.getTime()
    for (const record of (await this.#agent.history.find({ since, limit: RUNS })).toReversed()) this.note(record)
  }

  /** `knownSince`: since when the job knows the VM. */
  recordOf(job: string, vm: VmRef, repository: string, knownSince: Date | undefined): VmRecord {
    const good = this.#good.get(`${vmOf({ vm })} ${placeOf(repository)}`)
    return {
      vm,
      knownSince: knownSince?.getTime() ?? good?.lastGoodAt ?? this.#lookedAt,
      lastGoodAt: good?.lastGoodAt,
      lastFullAt: good?.lastFullAt,
      runs: triesOf(this.#tries.get(`${job} ${vmOf({ vm })}`) ?? []),
      expectMs: this.tookMs(vm, 'incremental') ?? this.tookMs(vm, 'full'),
    }
  }

  /** The last run of a job on a VM that ended. */
  lastOf(job: string, vm: VmRef): RunRecord | undefined {
    return this.#tries.get(`${job} ${vmOf({ vm })}`)?.[0]
  }

  /** How long its runs took, the average of the last ones, ms; undefined where none of this mode is known. */
  tookMs(vm: VmRef, mode: BackupMode): number | undefined {
    const last = this.#lengths.get(`${vmOf({ vm })} ${mode}`)
    return last === undefined ? undefined : Math.round(last.reduce((sum, each) => sum + each, 0) / last.length)
  }

  #add(vm: string, repository: string, mode: BackupMode, at: number): void {
    const key = `${vm} ${placeOf(repository)}`
    const known = this.#good.get(key)
    const full = mode === 'full' ? at : undefined
    if (known === undefined) {
      this.#good.set(key, { lastGoodAt: at, lastFullAt: full })
      return
    }
    known.lastGoodAt = Math.max(known.lastGoodAt, at)
    if (full !== undefined) known.lastFullAt = Math.max(known.lastFullAt ?? full, full)
  }
}

/** Cut off by the end of the agent that ran it: nobody's wish, and no fault of the VM. */
const isInterrupted = ({ result, error }: RunRecord): boolean => result === 'canceled' && error?.code !== 'CANCELED'

/** Those that count as tries of the moment they were due for. */
function triesOf(records: readonly RunRecord[]): readonly PastRun[] {
  const cut = new Map<string | undefined, number>()
  return records
    .filter((record) => {
      if (!isInterrupted(record)) return true
      const before = cut.get(record.dueAt) ?? 0
      cut.set(record.dueAt, before + 1)
      return before >= INTERRUPTED_AT_MOST
    })
    .map(({ begunAt, endedAt, error }) => ({ begunAt: Date.parse(begunAt), endedAt: Date.parse(endedAt), error: error?.code }))
}

const keyOf = ({ vcenterUuid, instanceUuid }: { readonly vcenterUuid: string; readonly instanceUuid: string }): string =>
  `${vcenterUuid}/${instanceUuid}`

/** A provider names a restic repository with its kind, the configuration as it likes. */
const placeOf = (url: string): string => url.replace(/^restic:/u, '')
