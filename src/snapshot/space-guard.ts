import {
  type Abortable,
  AgentError,
  type Clock,
  type DatastoreRef,
  formatBytes,
  type Log,
  toAgentError,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import { datastoreSpace, parseDatastorePath, snapshotDirectory, vmFiles, vmMoRef, type Vsphere } from '../vsphere/index.ts'
import {
  type ExpectedRun,
  fillRate,
  forecastGrowth,
  type GrowingDisk,
  reserveOf,
  runDurationMs,
  type SpaceReserve,
  type SpaceSample,
} from './redo-forecast.ts'

export type SpaceGuardOptions = {
  readonly vsphere: Vsphere
  readonly clock: Clock
  readonly log: Log
  readonly reserve: SpaceReserve | undefined
  /** Between two looks at the datastores, ms. */
  readonly intervalMs: number
}

/** The free space of one VM's datastores, from before its snapshot until it is gone. Disposed after the snapshot was removed. */
export interface SpaceWatch extends Disposable {
  /** Aborted with CAPACITY when this VM's backup has to end, so that a datastore does not fill. */
  readonly signal: AbortSignal
  /**
   * Called once, before the snapshot: CAPACITY when the redo logs are not expected to fit. What cannot be found out becomes a line in `warnings`,
   * which also takes what is noticed later.
   */
  admit(config: VmConfig, run: ExpectedRun, warnings: string[], options?: Abortable): Promise<void>
  /** Bytes of this VM read so far, and to read in all as far as is known. */
  progress(doneBytes: number, totalBytes: number): void
}

/** Looks at this many samples back. */
const SAMPLES = 8
/** A trend ends a backup only when the reserve is this near; until then it is a warning. Intervals. */
const URGENT = 4

/** One for all VMs of a run at one vCenter. Disposal ends the look under way. */
export interface SpaceGuard extends AsyncDisposable {
  watch(vm: VmRef): SpaceWatch
}

/**
 * Keeps the datastores of one run from filling up with its redo logs. A full datastore stuns every VM on it, so a backup is ended in order before:
 * the one with the largest redo log first, whose removal frees the most. The reserve is what a removal may need itself: blocks of a thin disk
 * that were never written before are copied into it before the redo log is deleted. Asks for each datastore once an interval, however many VMs.
 */
export const createSpaceGuard = (options: SpaceGuardOptions): SpaceGuard => new Guard(options)

class Guard implements SpaceGuard {
  readonly options: SpaceGuardOptions
  readonly #watches = new Set<Watch>()
  readonly #samples = new Map<string, SpaceSample[]>()
  /** One admission at a time, so that two VMs are not promised the same space. */
  #admitting: Promise<void> = Promise.resolve()
  #timer: Disposable | undefined
  /** The look under way. */
  #looking: Promise<void> = Promise.resolve()
  readonly #closing = new AbortController()

  constructor(options: SpaceGuardOptions) {
    this.options = Object.freeze({ ...options })
  }

  watch(vm: VmRef): SpaceWatch {
    return new Watch(vm, this)
  }

  async admit(watch: Watch, config: VmConfig, run: ExpectedRun, warnings: string[], options?: Abortable): Promise<void> {
    const before = this.#admitting
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#admitting = promise
    try {
      await before
      await this.#admit(watch, config, run, warnings, options)
    } finally {
      resolve()
    }
  }

  forget(watch: Watch): void {
    this.#watches.delete(watch)
    if (this.#watches.size > 0) return
    this.#timer?.[Symbol.dispose]()
    this.#timer = undefined
    this.#samples.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.[Symbol.dispose]()
    this.#closing.abort(new AgentError('CANCELED', 'The run has ended.'))
    await this.#looking
  }

  async #admit(watch: Watch, config: VmConfig, run: ExpectedRun, warnings: string[], options?: Abortable): Promise<void> {
    const { vsphere, clock, log, reserve, intervalMs } = this.options
    try {
      const disks = await growingDisks(vsphere, config, options)
      const growth = forecastGrowth(disks, run)
      const morefs = new Map(config.datastores.filter(({ name }) => growth.has(name)).map((store) => [store.name, store.moref]))
      const space = await datastoreSpace(vsphere, [...morefs.values()], options)
      const files = new Set((await vmFiles(vsphere, vmMoRef(config.vm), options)).map(({ name }) => name))
      for (const [name, moref] of morefs) {
        const store = space.get(moref)
        if (store === undefined) continue
        const others = this.#promised(moref)
        const kept = reserveOf(store, reserve)
        const own = growth.get(name) ?? 0
        if (store.freeBytes - others - own < kept) throw tooLittle(config.vm, store, own, others, kept, run)
        log.debug('datastore has room for the redo logs', {
          vm: config.vm.name,
          datastore: name,
          free: store.freeBytes,
          forecast: own,
          others,
        })
      }
      const thin = new Set(disks.filter((disk) => disk.thin).map(({ datastore }) => datastore))
      watch.open({ growth: new Map([...morefs].map(([name, moref]) => [moref, growth.get(name) ?? 0])), space, files, thin, run }, warnings)
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CAPACITY' || shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      log.warn('free space could not be asked for; going on without', { vm: config.vm.name, error: shown.message })
      warnings.push(`Free space on the datastores could not be asked for: ${shown.message}`)
      return
    }
    this.#watches.add(watch)
    this.#timer ??= clock.every(
      intervalMs,
      () => {
        this.#looking = this.#look().catch((error: unknown) => this.#failed(error))
        return this.#looking
      },
      (error) => this.#failed(error),
    )
  }

  /** Bytes that the redo logs of VMs under way are still expected to take on a datastore. */
  #promised(moref: string): number {
    let sum = 0
    for (const watch of this.#watches) sum += watch.outstanding(moref)
    return sum
  }

  async #look(): Promise<void> {
    const { vsphere, clock } = this.options
    const morefs = [...new Set([...this.#watches].flatMap((watch) => watch.datastores))]
    if (morefs.length === 0) return
    const space = await datastoreSpace(vsphere, morefs, { signal: this.#closing.signal })
    const atMs = clock.monotonicMs()
    for (const [moref, store] of space) {
      const samples = [...(this.#samples.get(moref) ?? []), { atMs, freeBytes: store.freeBytes }].slice(-SAMPLES)
      this.#samples.set(moref, samples)
      await this.#judge(store, samples)
    }
  }

  async #judge(store: DatastoreRef, samples: readonly SpaceSample[]): Promise<void> {
    const { log, reserve, intervalMs } = this.options
    const kept = reserveOf(store, reserve)
    const here = [...this.#watches].filter((watch) => watch.datastores.includes(store.moref))
    const running = here.filter((watch) => !watch.signal.aborted)
    if (running.length === 0) return
    // The redo logs cannot be larger than what was lost since the first look, so while that would fit twice over nobody need be asked.
    const lost = Math.max(0, ...here.map((watch) => watch.freeAtFirst(store))) - store.freeBytes
    if (store.freeBytes - kept > 2 * Math.max(0, lost) && store.freeBytes > kept * 2) return
    const sizes = await Promise.all(running.map(async (watch) => ({ watch, bytes: await this.#redoLogs(watch, store) })))
    const needed = kept + Math.max(0, ...sizes.map(({ watch, bytes }) => (watch.isThin(store) ? bytes : 0)))
    const fillPerMs = fillRate(samples) * (needed > kept ? 2 : 1)
    const endMs = Math.max(...running.map((watch) => watch.remainingMs()))
    const leftMs = fillPerMs === 0 ? Number.POSITIVE_INFINITY : Math.max(0, store.freeBytes - needed) / fillPerMs
    const low = store.freeBytes <= needed
    if (!low && leftMs >= endMs) return
    if (!low && leftMs > URGENT * intervalMs) {
      for (const watch of running) watch.warnOnce(`The datastore ${store.name} is filling up: ${formatBytes(store.freeBytes)} are free.`)
      log.warn('a datastore is filling up', { datastore: store.name, free: store.freeBytes, reserve: kept, minutesLeft: leftMs / 60_000 })
      return
    }
    // One that is ending already frees space soon; a second one follows only when that is too slow.
    const desperate = store.freeBytes <= kept / 2
    if (running.length < here.length && !desperate) return
    const largest = sizes
      .filter(({ watch }) => desperate || watch.remainingMs() > intervalMs)
      .sort((one, other) => other.bytes - one.bytes)[0]
    if (largest === undefined) return
    log.error('ending a backup so that its datastore does not fill up', {
      vm: largest.watch.vm.name,
      datastore: store.name,
      free: store.freeBytes,
      reserve: kept,
      redoLogs: largest.bytes,
    })
    largest.watch.end(fillingUp(largest.watch.vm, store, largest.bytes, needed))
  }

  /** Bytes of the VM's redo logs on a datastore; what was expected when they cannot be read. */
  async #redoLogs(watch: Watch, store: DatastoreRef): Promise<number> {
    try {
      const files = await vmFiles(this.options.vsphere, vmMoRef(watch.vm), { signal: this.#closing.signal })
      return watch.grown(store, files)
    } catch (error) {
      this.options.log.debug('redo logs could not be listed', { vm: watch.vm.name, error: toAgentError(error).message })
      return watch.outstanding(store.moref)
    }
  }

  /** A question that failed ends nothing: what is not known is no reason to throw a backup away. */
  #failed(error: unknown): void {
    if (this.#closing.signal.aborted) return
    const { message } = toAgentError(error)
    this.options.log.warn('free space could not be asked for', { error: message })
    for (const watch of this.#watches) watch.warnOnce(`Free space on the datastores could not be asked for: ${message}`)
  }
}

/** How a VM's datastores were before its snapshot. */
type Admitted = {
  /** Expected growth, by datastore. */
  readonly growth: ReadonlyMap<string, number>
  readonly space: ReadonlyMap<string, DatastoreRef>
  /** The VM's files: what is there later and not here is a redo log. */
  readonly files: ReadonlySet<string>
  /** Names of datastores that hold thin disks of it. */
  readonly thin: ReadonlySet<string>
  readonly run: ExpectedRun
}

class Watch implements SpaceWatch {
  readonly vm: VmRef
  readonly #guard: Guard
  readonly #controller = new AbortController()
  #admitted: Admitted | undefined
  readonly #grown = new Map<string, number>()
  #warnings: string[] = []
  readonly #warned = new Set<string>()
  #sinceMs = 0
  #readingSinceMs: number | undefined
  #done = 0
  #total = 0

  constructor(vm: VmRef, guard: Guard) {
    this.vm = vm
    this.#guard = guard
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get datastores(): readonly string[] {
    return [...(this.#admitted?.growth.keys() ?? [])]
  }

  admit(config: VmConfig, run: ExpectedRun, warnings: string[], options?: Abortable): Promise<void> {
    return this.#guard.admit(this, config, run, warnings, options)
  }

  open(admitted: Admitted, warnings: string[]): void {
    this.#admitted = admitted
    this.#warnings = warnings
    this.#sinceMs = this.#guard.options.clock.monotonicMs()
  }

  progress(doneBytes: number, totalBytes: number): void {
    this.#readingSinceMs ??= this.#guard.options.clock.monotonicMs()
    this.#done = doneBytes
    this.#total = totalBytes
  }

  /** Free space when this VM was admitted. */
  freeAtFirst(store: DatastoreRef): number {
    return this.#admitted?.space.get(store.moref)?.freeBytes ?? store.freeBytes
  }

  /** Whether a removal may have to enlarge a disk on this datastore. */
  isThin(store: DatastoreRef): boolean {
    return this.#admitted?.thin.has(store.name) ?? false
  }

  outstanding(moref: string): number {
    return Math.max(0, (this.#admitted?.growth.get(moref) ?? 0) - (this.#grown.get(moref) ?? 0))
  }

  /** Size of the files on a datastore that were not there before the snapshot. */
  grown(store: DatastoreRef, files: readonly { readonly name: string; readonly size: number }[]): number {
    const bytes = files
      .filter(({ name }) => this.#admitted?.files.has(name) === false && name.startsWith(`[${store.name}]`))
      .reduce((sum, { size }) => sum + size, 0)
    this.#grown.set(store.moref, bytes)
    return bytes
  }

  /** Until the snapshot is gone: by this run's own speed once it reads, by what was expected before. */
  remainingMs(): number {
    const now = this.#guard.options.clock.monotonicMs()
    const spent = this.#readingSinceMs === undefined ? 0 : now - this.#readingSinceMs
    const run = this.#admitted?.run
    const total = Math.max(this.#total, run?.bytes ?? 0)
    if (this.#done > 0 && spent > 0) return (Math.max(0, total - this.#done) * spent) / this.#done
    return run === undefined ? 0 : Math.max(0, runDurationMs(run) - (now - this.#sinceMs))
  }

  warnOnce(text: string): void {
    const kind = text.split(':', 1)[0] ?? text
    if (this.#warned.has(kind)) return
    this.#warned.add(kind)
    this.#warnings.push(text)
  }

  end(error: AgentError): void {
    this.#controller.abort(error)
  }

  [Symbol.dispose](): void {
    this.#guard.forget(this)
  }
}

/** The guard that is switched off. */
export const noSpaceGuard = (): SpaceGuard =>
  Object.freeze({
    watch: () => ({
      signal: new AbortController().signal,
      admit: () => Promise.resolve(),
      progress: () => undefined,
      [Symbol.dispose]: () => undefined,
    }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  })

/**
 * The disks a snapshot puts a redo log over, each with the datastore that will hold it: the disk's own, or the snapshot directory's when the VM
 * keeps redo logs apart (`snapshot.redoNotWithParent`).
 */
async function growingDisks(vsphere: Vsphere, config: VmConfig, options?: Abortable): Promise<readonly GrowingDisk[]> {
  const apart = Object.entries(config.extraConfig).some(
    ([key, value]) => key.toLowerCase() === 'snapshot.redonotwithparent' && value.toUpperCase() === 'TRUE',
  )
  const directory = apart ? await snapshotDirectory(vsphere, vmMoRef(config.vm), options) : undefined
  return config.disks
    .filter(
      (disk) =>
        !disk.diskMode.startsWith('independent') && disk.fileName !== '' && disk.backing !== 'rdmPhysical' && disk.backing !== 'raw',
    )
    .map((disk) => ({
      datastore: parseDatastorePath(directory ?? disk.fileName).datastore,
      capacityBytes: disk.capacityBytes,
      thin: disk.thin,
    }))
}

function tooLittle(vm: VmRef, store: DatastoreRef, own: number, others: number, kept: number, run: ExpectedRun): AgentError {
  const beside = others === 0 ? '' : `, those of other VMs under way ${formatBytes(others)}`
  const minutes = Math.ceil(runDurationMs(run) / 60_000)
  return new AgentError(
    'CAPACITY',
    `The datastore ${store.name} has ${formatBytes(store.freeBytes)} free: the redo logs of ${vm.name} may take ${formatBytes(own)} in ${minutes} min${beside}, and ${formatBytes(kept)} must stay free.`,
    {
      subject: store.name,
      next: `Free space on ${store.name}, back up at a calmer hour, or lower space.reserve (--space-reserve).`,
    },
  )
}

function fillingUp(vm: VmRef, store: DatastoreRef, redoLogs: number, kept: number): AgentError {
  return new AgentError(
    'CAPACITY',
    `The datastore ${store.name} is filling up, with ${formatBytes(store.freeBytes)} free and ${formatBytes(kept)} to be kept: the backup of ${vm.name}, whose redo logs are the largest (${formatBytes(redoLogs)}), was ended.`,
    {
      subject: store.name,
      next: `Free space on ${store.name}, or back up ${vm.name} when its guest writes less; its snapshot is removed.`,
    },
  )
}
