import {
  type Abortable,
  AgentError,
  type BlockSource,
  type Clock,
  type Extent,
  type Log,
  type Range,
  rangeEnd,
  throwIfAborted,
  toAgentError,
  type TransportName,
} from '../core/index.ts'
import { NoTransportError, type Refusal } from './refusal.ts'
import type { BlockDigest, OpenDisk, OpenOptions, SnapshotDisk, Transport } from './transport.ts'

/** A disk open for reading, with how it came to be read this way. Everything but `source` may change while it is read. */
export interface PlannedDisk {
  readonly source: BlockSource
  readonly transport: TransportName
  /** `Transport.local` of it. */
  readonly local: boolean
  readonly reason: string
  /** Every transport that was refused by its probe, could not open, or failed for good in mid-run, in that order. */
  readonly refused: readonly Refusal[]
  /** How often a transport broke in mid-run and was opened again. */
  readonly resumed: number
  /**
   * `OpenDisk.digests` of whichever transport has the disk open; undefined where it has none. Goes on where it was when the transport breaks and can be opened
   * again, but not for ever: when nothing comes twice in a row, it fails, and reading is tried as if it had never been asked.
   */
  readonly digests: OpenDisk['digests']
  /** Proves what was read, where only the end of the disk tells; after the last read and before the bytes count. INTEGRITY, UNAVAILABLE. */
  finish(options?: Abortable): Promise<void>
}

/** How often a transport that broke in mid-run is opened again before it is given up. */
export type ReopenPolicy = {
  /** Tries in a row, with nothing read between them, while another transport is left to go to. 0 = go there at once. */
  readonly attempts: number
  /** The same when none is left, or all of those refused: a vCenter that restarts is away for minutes. */
  readonly lastAttempts: number
  /** Pause before the first try, ms; doubles with each further one up to `maxDelayMs`. */
  readonly delayMs: number
  readonly maxDelayMs: number
}

/** A quarter of a minute where there is another way, ten minutes where there is none. */
export const DEFAULT_REOPEN: ReopenPolicy = Object.freeze({ attempts: 4, lastAttempts: 24, delayMs: 1000, maxDelayMs: 30_000 })

export type PlanOptions = OpenOptions & {
  readonly log: Log
  readonly clock: Clock
  readonly reopen?: ReopenPolicy | undefined
  /** Transports that were tried for this disk before, in another way, and said no. */
  readonly refused?: readonly Refusal[] | undefined
}

/**
 * Opens a snapshot's disk by the first transport of `transports` whose probe agrees, and keeps it open: when a read breaks with UNAVAILABLE, the
 * same transport is opened again (only where trying `now` can help), then the next one, and the same read repeated, inside the same
 * snapshot. Nothing already read is read again, concurrent readers wait for one re-opening, and the caller's source stays the same. It does not
 * outlive the process: the snapshot of a run that died is removed, and the next run reads anew.
 * Errors: NoTransportError (UNAVAILABLE) with every transport's reason when none works; other errors of a read (INTEGRITY) pass through: another way to the same
 * bytes would not make them right.
 */
export async function openPlanned(disk: SnapshotDisk, transports: readonly Transport[], options: PlanOptions): Promise<PlannedDisk> {
  const planned = new Planned(disk, transports, options)
  await planned.advance(options)
  return planned
}

/** Tries for digests in a row that bring none. */
const MOST_IN_VAIN = 2

type Current = { readonly transport: Transport; readonly source: OpenDisk; readonly reason: string }

/** What one read or listing has seen fail, so that an area that never comes is not tried for ever while others go on. */
type Failures = { on: TransportName | undefined; count: number }

class Planned implements PlannedDisk {
  readonly #disk: SnapshotDisk
  readonly #rest: Transport[]
  readonly #log: Log
  readonly #clock: Clock
  readonly #reopen: ReopenPolicy
  readonly #held: Omit<OpenOptions, 'signal'>
  readonly #refused: Refusal[]
  #current: Current | undefined
  #advancing: Promise<void> | undefined
  readonly #closing = new AbortController()
  /** Failed tries since the last byte that was read. */
  #failed = 0
  #resumed = 0
  #interruption = ''
  #exhaustion: AgentError | undefined
  /** Calls under way on each source: one that broke is closed when the last of them has ended. */
  readonly #users = new Map<BlockSource, number>()
  /** Sources that broke, and the end of each. */
  readonly #broken = new Map<BlockSource, Promise<void> | undefined>()
  readonly source: BlockSource

  constructor(disk: SnapshotDisk, transports: readonly Transport[], { log, clock, reopen, claims, onWait, refused }: PlanOptions) {
    this.#disk = disk
    this.#rest = [...transports]
    this.#log = log
    this.#clock = clock
    this.#reopen = reopen ?? DEFAULT_REOPEN
    this.#held = { claims, onWait }
    this.#refused = [...(refused ?? [])]
    this.source = {
      size: disk.disk.capacityBytes,
      read: (offset, into, options) => this.#read(offset, into, options),
      extents: (range, options) => this.#extents(range, options),
      [Symbol.asyncDispose]: () => this.#dispose(),
    }
  }

  get transport(): TransportName {
    return this.#open().transport.name
  }

  get local(): boolean {
    return this.#open().transport.local === true
  }

  get reason(): string {
    const { reason } = this.#open()
    return this.#resumed === 0
      ? reason
      : `${reason}; opened again ${this.#resumed === 1 ? 'once' : `${this.#resumed} times`} after: ${this.#interruption}`
  }

  get refused(): readonly Refusal[] {
    return [...this.#refused]
  }

  get resumed(): number {
    return this.#resumed
  }

  async finish(options?: Abortable): Promise<void> {
    await this.#open().source.finish?.(options)
  }

  get digests(): OpenDisk['digests'] {
    if (this.#open().source.digests === undefined) return undefined
    return (range, blockSize, options) => this.#digests(range, blockSize, options)
  }

  async *#digests(range: Range, blockSize: number, options?: Abortable): AsyncGenerator<BlockDigest> {
    const failures: Failures = { on: undefined, count: 0 }
    let inVain = 0
    let broken: unknown
    for (let offset = range.offset; offset < rangeEnd(range); ) {
      const { source, transport } = this.#open()
      const { digests } = source
      // Of the transport that had them more is to be told than of the one that goes on without.
      if (digests === undefined) throw broken ?? new AgentError('INTEGRITY', `${transport.name} computes no digests.`)
      try {
        for await (const block of digests({ offset, length: rangeEnd(range) - offset }, blockSize, options)) {
          yield block
          offset = rangeEnd(block)
          inVain = 0
        }
        if (offset < rangeEnd(range))
          throw new AgentError('INTEGRITY', `${transport.name} told digests up to byte ${offset} of ${rangeEnd(range)}.`)
      } catch (error) {
        broken = error
        // The transport itself may be well: whether it can still be read is for reading to find out.
        if (++inVain === MOST_IN_VAIN || toAgentError(error).retry !== 'now') throw error
        await this.#replace(source, error, failures, options)
      }
    }
  }

  /** Opens the next transport that works. */
  async advance(options?: Abortable): Promise<void> {
    if (!(await this.#next(options))) throw this.#exhausted()
  }

  /** False when every one that is left refuses. */
  async #next(options?: Abortable): Promise<boolean> {
    for (;;) {
      throwIfAborted(options)
      const transport = this.#rest.shift()
      if (transport === undefined) return false
      try {
        const verdict = await transport.probe(this.#disk, { ...options, onWait: this.#held.onWait })
        if (!verdict.ok) {
          this.#refuse(transport.name, verdict.reason)
          continue
        }
        const source = await transport.open(this.#disk, { ...options, ...this.#held })
        const first = this.#refused.length === 0
        const after = `, after ${this.#refused.map((refusal) => refusal.transport).join(', ')}`
        this.#current = { transport, source, reason: `${verdict.note ?? 'usable'}${first ? ', first choice' : after}` }
        return true
      } catch (error) {
        const shown = toAgentError(error)
        if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
        this.#refuse(transport.name, shown.message)
      }
    }
  }

  async #read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const failures: Failures = { on: undefined, count: 0 }
    for (;;) {
      const { source } = await this.#ready(options)
      try {
        await this.#using(source, () => source.read(offset, into, options))
        this.#failed = 0
        return
      } catch (error) {
        await this.#replace(source, error, failures, options)
      }
    }
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    const failures: Failures = { on: undefined, count: 0 }
    let offset = range.offset
    // At least once, so that a range outside the disk is refused also when it is empty.
    do {
      const { source } = await this.#ready(options)
      try {
        this.#enter(source)
        try {
          for await (const extent of source.extents({ offset, length: rangeEnd(range) - offset }, options)) {
            this.#failed = 0
            failures.count = 0
            yield extent
            offset = rangeEnd(extent)
          }
        } finally {
          this.#leave(source)
        }
        return
      } catch (error) {
        await this.#replace(source, error, failures, options)
      }
    } while (offset < rangeEnd(range))
  }

  /** After a failed read: goes on when a source is open again, by whichever caller, else throws. */
  async #replace(failed: BlockSource, error: unknown, failures: Failures, options?: Abortable): Promise<void> {
    throwIfAborted(options)
    const shown = toAgentError(error)
    if (shown.code !== 'UNAVAILABLE') throw error
    const current = this.#open()
    if (current.source !== failed) return
    if (failures.on !== current.transport.name) Object.assign(failures, { on: current.transport.name, count: 0 })
    failures.count++
    if (this.#advancing === undefined) {
      this.#failed = Math.max(this.#failed, failures.count - 1)
      const advancing = this.#goOn(current, shown).finally(() => {
        this.#advancing = undefined
      })
      // Seen by every caller that waits; one that was canceled meanwhile does not.
      advancing.catch(() => undefined)
      this.#advancing = advancing
    }
    await untilAborted(this.#advancing, options)
  }

  /** What is open; while another is being opened, that: the broken one may be closed already. */
  async #ready(options?: Abortable): Promise<Current> {
    if (this.#advancing !== undefined) await untilAborted(this.#advancing, options)
    return this.#open()
  }

  async #using<T>(source: BlockSource, work: () => Promise<T>): Promise<T> {
    this.#enter(source)
    try {
      return await work()
    } finally {
      this.#leave(source)
    }
  }

  #enter(source: BlockSource): void {
    this.#users.set(source, (this.#users.get(source) ?? 0) + 1)
  }

  #leave(source: BlockSource): void {
    const users = (this.#users.get(source) ?? 1) - 1
    if (users > 0) this.#users.set(source, users)
    else {
      this.#users.delete(source)
      if (this.#broken.has(source)) void this.#close(source)
    }
  }

  /** What a broken source holds (a session of its host, say) is given back before another is waited for, as soon as nobody uses it. */
  #close(source: BlockSource): Promise<void> {
    const closed = this.#broken.get(source) ?? Promise.resolve().then(() => source[Symbol.asyncDispose]())
    // Thrown by the disk's own disposal.
    closed.catch(() => undefined)
    this.#broken.set(source, closed)
    return closed
  }

  /**
   * Opens the broken transport again, or the next; when none of those works either, this one for longer: what keeps them all away passes, as a vCenter that
   * restarts. Ended by the disk's disposal, not by one caller's signal.
   */
  async #goOn(broken: Current, error: AgentError): Promise<void> {
    const closing = { signal: this.#closing.signal }
    const { attempts, lastAttempts } = this.#reopen
    this.#broken.set(broken.source, undefined)
    if (!this.#users.has(broken.source)) void this.#close(broken.source)
    const others = this.#rest.length > 0
    let reason = await this.#again(broken, error, error, others ? attempts : lastAttempts)
    if (reason === undefined) return
    const failed = this.#failed
    const refusal = this.#refuse(broken.transport.name, `failed while reading: ${reason.message}`)
    this.#failed = 0
    if (await this.#next(closing)) return
    if (others) {
      this.#failed = failed
      reason = await this.#again(broken, error, reason, lastAttempts)
      if (reason === undefined) {
        this.#refused.splice(this.#refused.indexOf(refusal), 1)
        return
      }
    }
    throw this.#exhausted()
  }

  /** Tries to open a transport again, up to `limit` tries since the last byte; why not when it was in vain. `reason`: of the last try. */
  async #again(broken: Current, error: AgentError, reason: AgentError, limit: number): Promise<AgentError | undefined> {
    const closing = { signal: this.#closing.signal }
    const { delayMs, maxDelayMs } = this.#reopen
    let last = reason
    while (last.code === 'UNAVAILABLE' && last.retry === 'now' && this.#failed < limit) {
      const pause = Math.min(maxDelayMs, delayMs * 2 ** this.#failed)
      this.#failed++
      this.#log.warn('reading was interrupted; opening the transport again', {
        disk: this.#disk.disk.label,
        transport: broken.transport.name,
        attempt: this.#failed,
        pause,
        error: last.message,
      })
      await this.#clock.sleep(pause, closing)
      try {
        this.#current = { ...broken, source: await broken.transport.open(this.#disk, { ...closing, ...this.#held }) }
        this.#resumed++
        this.#interruption = error.message
        return undefined
      } catch (again) {
        last = toAgentError(again)
        // Files that are another disk's now, or damaged: no other way to them would make that right.
        if (last.code === 'CANCELED' || last.code === 'INTERNAL' || last.code === 'INTEGRITY') throw again
      }
    }
    return last
  }

  #refuse(transport: TransportName, reason: string): Refusal {
    const refusal = { transport, reason }
    this.#refused.push(refusal)
    this.#log.info('transport refused', { disk: this.#disk.disk.label, transport, reason })
    return refusal
  }

  #open(): Current {
    if (this.#current === undefined || this.#exhaustion !== undefined) throw this.#exhausted()
    return this.#current
  }

  /** The end of the disk: every later read fails at once with the same. */
  #exhausted(): AgentError {
    this.#exhaustion ??= new NoTransportError(this.#disk, this.#refused)
    return this.#exhaustion
  }

  async #dispose(): Promise<void> {
    this.#closing.abort(new AgentError('CANCELED', 'The disk was closed.'))
    await Promise.allSettled([this.#advancing])
    const { source } = this.#current ?? {}
    this.#current = undefined
    if (source !== undefined) this.#broken.set(source, this.#broken.get(source))
    const closed = [...this.#broken.keys()].map((each) => this.#close(each))
    this.#broken.clear()
    const failures: unknown[] = []
    for (const result of await Promise.allSettled(closed)) {
      if (result.status === 'rejected') failures.push(result.reason)
    }
    if (failures.length > 0) throw new AggregateError(failures, 'a source of this disk could not be closed')
  }
}

/** Waits for work that others wait for too: an abort ends the waiting, not the work. */
async function untilAborted(work: Promise<void>, options?: Abortable): Promise<void> {
  const signal = options?.signal
  if (signal === undefined) return work
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  const onAbort = (): void => resolve()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await Promise.race([work, aborted])
    throwIfAborted(options)
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
