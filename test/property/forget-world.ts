import {
  AgentError,
  type BackupMode,
  type Clock,
  type ConsistencyLevel,
  createIds,
  type Manifest,
  type PointId,
  type PointSummary,
  type RunId,
  silentLog,
  systemClock,
  type VmRef,
} from '../../src/core/index.ts'
import { forgetPoints, type ForgetRequest, type ForgetResult } from '../../src/flow/index.ts'
import {
  type Journal,
  MemoryJournal,
  MemoryJournalRows,
  recoverJobs,
  type Releasers,
  runJob,
  vmKey,
  type VmLocks,
} from '../../src/journal/index.ts'
import type { BackupReader, Locking, PointDeletion, PointStore } from '../../src/provider/index.ts'

export const URL = 'memory:/points'

/** How a point takes being read: soundly; listed but not to be opened; not even listed. */
export type Health = 'sound' | 'unopenable' | 'unlisted'
export type StoredPoint = { readonly summary: PointSummary; readonly health: Health }

/** What goes wrong during one run. Steps, listings and removals are counted from 1. */
export type Faults = {
  /** The process ends for good at this step, before or after what the step does. */
  readonly stop?: { readonly step: number; readonly after: boolean } | undefined
  /** A second process, that recovers, ends at this step of its own. */
  readonly stopRecovery?: number | undefined
  /** A listing breaks off after some points, with an error or without a word. */
  readonly listing?: { readonly nth: number; readonly after: number; readonly silent: boolean } | undefined
  /** A removal fails, before or after it was done; CONFIG: the destination takes none at all. */
  readonly removal?: { readonly nth: number; readonly done: boolean; readonly code: 'UNAVAILABLE' | 'CONFIG' } | undefined
  /** What somebody else does between the two listings. */
  readonly meanwhile?: ((world: ForgetWorld) => void | Promise<void>) | undefined
}

class Stopped extends Error {}

const ids = createIds()
/** The process of the restores, which lives on. */
const READER = 1_000_000

/** A repository in memory whose every call can fail, and a journal that outlives the processes working on it. */
export class ForgetWorld {
  readonly points = new Map<PointId, StoredPoint>()
  /** Points removed by name whose files are still there, as a directory export has them. */
  readonly halfRemoved = new Set<PointId>()
  readonly catalog = new Set<PointId>()
  readonly rows = new MemoryJournalRows()
  readonly vmLocks = new Map<string, string>()
  repositoryLocks: readonly string[] = []
  nowMs = Date.UTC(2026, 10, 22)
  made = 0
  /** Removals that the last process tried. */
  removals = 0
  /** A listing of the last run broke off with an error. */
  brokenOff = false
  /** What its last listing gave. */
  readonly lastListing = new Set<PointId>()
  #faults: Faults = {}
  #processes = 0
  #steps = 0
  #listings = 0
  #stopped = false

  readonly clock: Clock = { ...systemClock, now: () => new Date(this.nowMs) }

  /** A point as a backup of `vm` would commit it now. */
  add(
    vm: string,
    facts: { readonly consistency: ConsistencyLevel; readonly missing: readonly string[]; readonly health: Health },
  ): PointId {
    const id = `point-${String(++this.made).padStart(4, '0')}` as PointId
    const summary: PointSummary = {
      id,
      repository: URL,
      time: new Date(this.nowMs).toISOString(),
      vmName: vm,
      instanceUuid: `uuid-${vm}`,
      vcenterUuid: 'vc',
      mode: 'full' satisfies BackupMode,
      run: 'run' as RunId,
      consistency: facts.consistency,
      totalBytes: 0,
      readBytes: 0,
      storedBytes: 0,
      notProtected: facts.missing.length,
      missingDisks: facts.missing,
    }
    this.points.set(id, { summary, health: facts.health })
    this.catalog.add(id)
    return id
  }

  /** A restore that has a point open, as the journal shows it to others; ends with the given function. */
  async openForRestore(point: PointId): Promise<() => Promise<void>> {
    const journal = this.#journal(READER)
    const job = await journal.begin('restore-vm', { point })
    return () => journal.finish(job, { result: 'succeeded' })
  }

  /** One `vcb forget` in a process of its own; undefined when it was stopped, which is followed by recovery in further processes. */
  async forget(request: ForgetRequest, faults: Faults): Promise<ForgetResult | AgentError | undefined> {
    this.brokenOff = false
    this.#begin(faults)
    const journal = this.#counted(this.#journal())
    try {
      return await runJob({ journal, releasers: this.#releasers(), kind: 'forget', args: { repository: URL } }, (claims) =>
        forgetPoints(
          { points: this.#store(), url: URL, journal, locks: this.#locks(), catalog: this.#catalogue(), clock: this.clock, log: silentLog },
          claims,
          request,
        ),
      )
    } catch (error) {
      if (this.#stopped) {
        await this.#recover(faults)
        return undefined
      }
      if (error instanceof AgentError) return error
      throw error
    }
  }

  /** Jobs and locks nobody answers for; nothing when every process cleaned up after itself. */
  async left(): Promise<readonly string[]> {
    const jobs = (await this.#journal().unfinished()).filter(({ kind }) => kind === 'forget')
    return [...jobs.map(({ id }) => `job ${id}`), ...this.halfRemoved, ...this.vmLocks.keys(), ...this.repositoryLocks]
  }

  async #recover(faults: Faults): Promise<void> {
    const stops = faults.stopRecovery === undefined ? [undefined] : [{ step: faults.stopRecovery, after: false }, undefined]
    for (const stop of stops) {
      this.#begin({ stop })
      const journal = this.#counted(this.#journal())
      const alive = this.#processes
      try {
        await recoverJobs({
          journal,
          releasers: this.#releasers(),
          isAlive: async ({ pid }) => pid === alive || pid === READER,
          clock: this.clock,
          log: silentLog,
        })
      } catch (error) {
        if (!this.#stopped) throw error
      }
    }
  }

  #begin(faults: Faults): void {
    this.#faults = faults
    this.#steps = 0
    this.#listings = 0
    this.removals = 0
    this.#stopped = false
    this.#processes++
  }

  /** One thing done outside the process; nothing at all happens in a process that was stopped. */
  async #step<T>(work: () => T | Promise<T>): Promise<T> {
    const { stop } = this.#faults
    if (this.#stopped) throw new Stopped()
    const last = stop !== undefined && ++this.#steps === stop.step
    if (last && !stop.after) this.#stopped = true
    if (this.#stopped) throw new Stopped()
    const result = await work()
    if (last) {
      this.#stopped = true
      throw new Stopped()
    }
    return result
  }

  #journal(pid = this.#processes): MemoryJournal {
    return new MemoryJournal(this.clock, ids, { pid, bootId: 'boot', startTime: 1 }, this.rows)
  }

  #counted(journal: Journal): Journal {
    return new Proxy(journal, {
      get: (target, name) => {
        const method: unknown = Reflect.get(target, name)
        if (typeof method !== 'function') return method
        return (...args: readonly unknown[]): Promise<unknown> => this.#step(() => Reflect.apply(method, target, args) as Promise<unknown>)
      },
    })
  }

  #releasers(): Releasers {
    return {
      vmLock: {
        find: async ({ id }) => [...this.vmLocks].filter(([, claim]) => claim === id).map(([key]) => ({ vmKey: key }))[0],
        release: (_ref, { id }) => this.#step(() => this.#unlock(id)),
      },
      pointRemoval: {
        find: async ({ args }) => args,
        release: (ref) => this.#step(() => void this.halfRemoved.delete(ref.point)),
      },
      repositoryLock: {
        find: async ({ args }) => args,
        release: (ref) => this.#step(() => void (this.repositoryLocks = this.repositoryLocks.filter((name) => !ref.names.includes(name)))),
      },
    }
  }

  #locks(): VmLocks {
    return {
      acquire: (vm, claim) =>
        this.#step(() => {
          const key = vmKey(vm)
          if (this.vmLocks.has(key)) throw new AgentError('CONFLICT', `${vm.name} is locked.`)
          this.vmLocks.set(key, claim)
          return { vmKey: key }
        }),
      refusal: async () => undefined,
      find: async () => undefined,
      release: (claim) => this.#step(() => this.#unlock(claim)),
    }
  }

  #unlock(claim: string): void {
    for (const [key, holder] of this.vmLocks) if (holder === claim) this.vmLocks.delete(key)
  }

  #catalogue(): { remove(repository: string, id: PointId): Promise<void> } {
    return { remove: (_repository, id) => this.#step(() => void this.catalog.delete(id)) }
  }

  #store(): PointStore {
    const remove = (id: PointId): Promise<void> => this.#remove(id)
    return {
      list: () => this.#list(),
      open: (id) => this.#step(() => this.#open(id)),
      hold: async () => ({ [Symbol.asyncDispose]: async () => undefined }),
      async *check() {
        yield* []
      },
      delete: remove,
      beginDelete: (options?: Locking) => this.#lockRepository(remove, options),
    }
  }

  async *#list(): AsyncGenerator<PointSummary> {
    const nth = ++this.#listings
    if (nth === 2) await this.#faults.meanwhile?.(this)
    const cut = this.#faults.listing?.nth === nth ? this.#faults.listing : undefined
    this.lastListing.clear()
    for (const { summary, health } of Array.from(this.points.values())) {
      if (health === 'unlisted') continue
      if (cut !== undefined && this.lastListing.size === cut.after) {
        if (cut.silent) return
        this.brokenOff = true
        throw new AgentError('UNAVAILABLE', 'The listing broke off.')
      }
      yield await this.#step(() => summary)
      this.lastListing.add(summary.id)
    }
  }

  async #lockRepository(remove: (id: PointId) => Promise<void>, options?: Locking): Promise<PointDeletion> {
    const names = [`lock-${this.#processes}`]
    await options?.recordLocks?.({ url: URL, names })
    await this.#step(() => {
      if (this.repositoryLocks.length > 0) throw new AgentError('CONFLICT', 'The repository is locked.')
      this.repositoryLocks = names
    })
    return {
      signal: undefined,
      delete: remove,
      [Symbol.asyncDispose]: async () => {
        await this.#step(() => void (this.repositoryLocks = []))
        await options?.recordLocks?.({ url: URL, names: [] })
      },
    }
  }

  /** As a directory export removes: out of the list in one step, its files in another. */
  async #remove(id: PointId): Promise<void> {
    const { removal } = this.#faults
    const nth = ++this.removals
    const fails = removal !== undefined && (removal.nth === nth || (removal.code === 'CONFIG' && nth > removal.nth))
    const refusal = (): AgentError => new AgentError(removal?.code ?? 'INTERNAL', 'The removal failed.')
    if (fails && (!removal.done || removal.code === 'CONFIG')) throw refusal()
    await this.#step(() => {
      if (!this.points.has(id)) throw new AgentError('NOT_FOUND', `${id} is gone.`)
      this.points.delete(id)
      this.halfRemoved.add(id)
    })
    if (fails) throw refusal()
    await this.#step(() => void this.halfRemoved.delete(id))
  }

  #open(wanted: string): BackupReader {
    const found = [...this.points.values()].find(({ summary: { id } }) => id === wanted)
    if (found === undefined) throw new AgentError('NOT_FOUND', `${wanted} does not exist.`)
    if (found.health === 'unlisted') throw new AgentError('INTEGRITY', `${wanted} is damaged.`)
    const { summary, health } = found
    const vm: VmRef = { moref: 'vm-1', name: summary.vmName, instanceUuid: summary.instanceUuid, biosUuid: '', vcenterUuid: 'vc', path: '' }
    return {
      id: summary.id,
      // Only what forgetting reads of it.
      manifest: { vm, disks: [{ key: 2000 }] } as unknown as Manifest,
      file: async () => new Uint8Array(),
      disk: async () => {
        if (health === 'unopenable') throw new AgentError('INTEGRITY', `${wanted} lacks a block.`)
        return {
          size: 0,
          read: async () => undefined,
          async *extents() {
            yield* []
          },
          [Symbol.asyncDispose]: async () => undefined,
        }
      },
      [Symbol.asyncDispose]: async () => undefined,
    }
  }
}
