import {
  type Abortable,
  AgentError,
  type BlockSource,
  type Extent,
  type Log,
  type Range,
  rangeEnd,
  throwIfAborted,
  toAgentError,
  type TransportName,
} from '../core/index.ts'
import type { SnapshotDisk, Transport } from './transport.ts'

export type Refusal = { readonly transport: TransportName; readonly reason: string }

/** A disk open for reading, with how it came to be read this way. `transport`, `reason` and `refused` may change while it is read. */
export interface PlannedDisk {
  readonly source: BlockSource
  readonly transport: TransportName
  readonly reason: string
  /** Every transport that was refused by its probe, could not open, or failed in mid-run, in that order. */
  readonly refused: readonly Refusal[]
}

/**
 * Opens a snapshot's disk by the first transport of `transports` whose probe agrees. When reading fails with UNAVAILABLE in mid-run, the next
 * transport is opened and the same read repeated on it, so that nothing already read is read again; the caller's source stays the same.
 * Errors: UNAVAILABLE with every transport's reason when none works; other errors of a read (INTEGRITY) pass through: another way to the same
 * bytes would not make them right.
 */
export async function openPlanned(
  disk: SnapshotDisk,
  transports: readonly Transport[],
  options: Abortable & { readonly log: Log },
): Promise<PlannedDisk> {
  const planned = new Planned(disk, transports, options.log)
  await planned.advance(options)
  return planned
}

type Current = { readonly transport: TransportName; readonly source: BlockSource; readonly reason: string }

class Planned implements PlannedDisk {
  readonly #disk: SnapshotDisk
  readonly #rest: Transport[]
  readonly #log: Log
  readonly #refused: Refusal[] = []
  #current: Current | undefined
  #advancing: Promise<void> | undefined
  /** Sources replaced in mid-run; reads of other callers may still be using them, so they are closed with the disk. */
  readonly #replaced: BlockSource[] = []
  readonly source: BlockSource

  constructor(disk: SnapshotDisk, transports: readonly Transport[], log: Log) {
    this.#disk = disk
    this.#rest = [...transports]
    this.#log = log
    this.source = {
      size: disk.disk.capacityBytes,
      read: (offset, into, options) => this.#read(offset, into, options),
      extents: (range, options) => this.#extents(range, options),
      [Symbol.asyncDispose]: () => this.#dispose(),
    }
  }

  get transport(): TransportName {
    return this.#open().transport
  }

  get reason(): string {
    return this.#open().reason
  }

  get refused(): readonly Refusal[] {
    return [...this.#refused]
  }

  /** Opens the next transport that works. */
  async advance(options?: Abortable): Promise<void> {
    for (;;) {
      throwIfAborted(options)
      const transport = this.#rest.shift()
      if (transport === undefined) throw this.#exhausted()
      try {
        const verdict = await transport.probe(this.#disk, options)
        if (!verdict.ok) {
          this.#refuse(transport.name, verdict.reason)
          continue
        }
        const source = await transport.open(this.#disk, options)
        if (this.#current !== undefined) this.#replaced.push(this.#current.source)
        const first = this.#refused.length === 0
        this.#current = {
          transport: transport.name,
          source,
          reason: `${verdict.note ?? 'usable'}${first ? ', first choice' : `, after ${this.#refused.map((refusal) => refusal.transport).join(', ')}`}`,
        }
        return
      } catch (error) {
        const shown = toAgentError(error)
        if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
        this.#refuse(transport.name, shown.message)
      }
    }
  }

  async #read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    for (;;) {
      const { source } = this.#open()
      try {
        await source.read(offset, into, options)
        return
      } catch (error) {
        await this.#replace(source, error, options)
      }
    }
  }

  async *#extents(range: Range, options?: Abortable): AsyncGenerator<Extent> {
    let offset = range.offset
    while (offset < rangeEnd(range)) {
      const { source } = this.#open()
      try {
        for await (const extent of source.extents({ offset, length: rangeEnd(range) - offset }, options)) {
          yield extent
          offset = rangeEnd(extent)
        }
        return
      } catch (error) {
        await this.#replace(source, error, options)
      }
    }
  }

  /** After a failed read: goes on when another caller has replaced the source already, or when the next transport opens; else throws. */
  async #replace(failed: BlockSource, error: unknown, options?: Abortable): Promise<void> {
    const shown = toAgentError(error)
    if (shown.code !== 'UNAVAILABLE') throw error
    if (this.#open().source !== failed) return
    if (this.#advancing === undefined) {
      this.#refuse(this.#open().transport, `failed while reading: ${shown.message}`)
      this.#advancing = this.advance(options).finally(() => {
        this.#advancing = undefined
      })
    }
    await this.#advancing
  }

  #refuse(transport: TransportName, reason: string): void {
    this.#refused.push({ transport, reason })
    this.#log.info('transport refused', { disk: this.#disk.disk.label, transport, reason })
  }

  #open(): Current {
    if (this.#current === undefined) throw this.#exhausted()
    return this.#current
  }

  #exhausted(): AgentError {
    const reasons = this.#refused.map((refusal) => `${refusal.transport}: ${refusal.reason}`).join('; ')
    return new AgentError(
      'UNAVAILABLE',
      `No transport can read ${this.#disk.disk.label} of ${this.#disk.config.vm.name} (${reasons || 'none is configured'}).`,
      {
        subject: this.#disk.disk.label,
        retry: 'later',
        next: 'Run "vcb doctor" to see what each transport needs, or name others with --transport.',
      },
    )
  }

  async #dispose(): Promise<void> {
    const open = [...this.#replaced.splice(0), ...(this.#current === undefined ? [] : [this.#current.source])]
    this.#current = undefined
    const failures: unknown[] = []
    for (const result of await Promise.allSettled(open.map(async (source) => source[Symbol.asyncDispose]()))) {
      if (result.status === 'rejected') failures.push(result.reason)
    }
    if (failures.length > 0) throw new AggregateError(failures, 'a source of this disk could not be closed')
  }
}
