import {
  type Abortable,
  AgentError,
  type BlockSink,
  type BlockSource,
  throwIfAborted,
  toAgentError,
  type TransportName,
} from '../core/index.ts'
import { fillDisk, noticing } from '../disk/index.ts'
import { DEFAULT_REOPEN, type PlanOptions } from './planned-disk.ts'
import type { Refusal } from './refusal.ts'
import type { DiskWriting, TargetDisk, Transport } from './transport.ts'

/** So much is written before it is made durable: what an interruption can cost. Bytes. */
const DURABLE_EVERY = 16 * 1024 ** 3

/** How a disk came to be written. */
export type WrittenDisk = {
  readonly transport: TransportName
  readonly reason: string
  /** Every transport that was refused by its probe, could not open, or failed for good in mid-run, in that order. */
  readonly refused: readonly Refusal[]
  /** How often a transport broke in mid-run and was opened again. */
  readonly resumed: number
  /** Bytes sent, those that were sent again included. */
  readonly writtenBytes: number
}

export type WriteOptions = PlanOptions & {
  readonly onProgress?: ((at: { readonly doneBytes: number }) => void) | undefined
  /** Asked before each write: resolves when so many bytes may be sent. */
  readonly pace?: ((bytes: number, options?: Abortable) => Promise<void>) | undefined
  /** Bytes written before they are made durable; 16 GiB when absent. */
  readonly durableEvery?: number | undefined
}

/**
 * Writes `source` into an empty disk by the first transport of `transports` that can, whole and durable when it resolves. What breaks with UNAVAILABLE is
 * opened again, or the next transport is taken; either goes on behind what was last made durable, and writes all after that again. Zeros are never
 * sent. Errors: UNAVAILABLE with every transport's reason when none works; those of `source`, CAPACITY and INTEGRITY pass through: another
 * way would not make them right.
 */
export async function writePlanned(
  source: BlockSource,
  target: TargetDisk,
  transports: readonly Transport[],
  options: WriteOptions,
): Promise<WrittenDisk> {
  const writer = new PlannedWriter(source, target, options)
  for (const [index, transport] of transports.entries()) {
    throwIfAborted(options)
    const result = await writer.by(transport, index < transports.length - 1)
    if (result !== undefined) return result
  }
  const { label } = target.disk
  const reasons = writer.refused.map(({ transport, reason }) => `${transport}: ${reason}`).join('; ')
  throw new NoWriterError(
    writer.refused,
    `No transport can write ${label} of ${target.config.vm.name} (${reasons || 'none is configured'}).`,
    label,
  )
}

/** Every transport has refused. */
export class NoWriterError extends AgentError {
  readonly refused: readonly Refusal[]

  constructor(refused: readonly Refusal[], message: string, subject: string) {
    const next = 'Restore another way with --transport, or remove what keeps these away.'
    super('UNAVAILABLE', message, { subject, retry: 'later', next })
    this.refused = refused
  }
}

/** Whether the same transport may do better in a moment. A host may keep the lock of a connection that broke for a while. */
const canPass = (error: AgentError, again: boolean): boolean =>
  (error.code === 'UNAVAILABLE' && error.retry === 'now') || (again && error.code === 'CONFLICT' && error.retry === 'later')

/** Does not own `sink`. */
function paced(sink: BlockSink, pace: WriteOptions['pace']): BlockSink {
  if (pace === undefined) return sink
  return {
    size: sink.size,
    write: async (offset, data, options) => {
      await pace(data.length, options)
      return sink.write(offset, data, options)
    },
    zero: (range, options) => sink.zero(range, options),
    flush: (options) => sink.flush(options),
    [Symbol.asyncDispose]: async () => undefined,
  }
}

class PlannedWriter {
  readonly refused: Refusal[] = []
  readonly #source: BlockSource
  readonly #target: TargetDisk
  readonly #options: WriteOptions
  #sourceFailure: unknown
  /** Everything before is on the datastore. */
  #durable = 0
  #sent = 0
  #resumed = 0

  constructor(source: BlockSource, target: TargetDisk, options: WriteOptions) {
    this.#source = noticing(source, (error) => {
      this.#sourceFailure ??= error
    })
    this.#target = target
    this.#options = options
  }

  /** Undefined when it cannot be done this way; the reason is among the refusals then. */
  async by({ name, writing }: Transport, othersLeft: boolean): Promise<WrittenDisk | undefined> {
    if (writing === undefined) return this.#refuse(name, 'it only reads')
    const verdict = await writing.probe(this.#target, this.#options)
    if (!verdict.ok) return this.#refuse(name, verdict.reason)
    const { attempts, lastAttempts, delayMs, maxDelayMs } = this.#options.reopen ?? DEFAULT_REOPEN
    const before = this.#resumed
    let interruption = ''
    for (let failed = 0; ; failed++) {
      const durable = this.#durable
      try {
        await this.#write(writing)
        break
      } catch (error) {
        const shown = this.#toBorne(error)
        if (this.#durable > durable) failed = 0
        if (!canPass(shown, failed > 0) || failed >= (othersLeft ? attempts : lastAttempts))
          return this.#refuse(name, `${this.#sent === 0 ? '' : 'failed while writing: '}${shown.message}`)
        const pause = Math.min(maxDelayMs, delayMs * 2 ** failed)
        const { log, clock, signal } = this.#options
        log.warn('writing was interrupted; opening the transport again', {
          disk: this.#target.disk.label,
          transport: name,
          pause,
          error: shown.message,
        })
        await clock.sleep(pause, { signal })
        this.#resumed++
        interruption = shown.message
      }
    }
    const first = this.refused.length === 0
    const after = `, after ${this.refused.map(({ transport }) => transport).join(', ')}`
    const times = this.#resumed - before
    const again = times === 0 ? '' : `; opened again ${times === 1 ? 'once' : `${times} times`} after: ${interruption}`
    return {
      transport: name,
      reason: `${verdict.note ?? 'usable'}${first ? ', first choice' : after}${again}`,
      refused: [...this.refused],
      resumed: this.#resumed,
      writtenBytes: this.#sent,
    }
  }

  /** From what is durable to the end; durable again after each part of it. */
  async #write(writing: DiskWriting): Promise<void> {
    const { signal, claims, onWait, onProgress, durableEvery = DURABLE_EVERY } = this.#options
    do {
      const sent = this.#sent
      await using sink = await writing.open(this.#target, { signal, claims, onWait })
      const { end, written } = await fillDisk(this.#source, paced(sink, this.#options.pace), this.#durable, {
        signal,
        limit: durableEvery,
        onProgress: (at) => {
          this.#sent = sent + at.written
          onProgress?.({ doneBytes: at.end })
        },
      })
      this.#sent = sent + written
      await sink.flush({ signal })
      this.#durable = end
    } while (this.#durable < this.#source.size)
    onProgress?.({ doneBytes: this.#source.size })
  }

  /** The error when another transport may do better; anything else is thrown. */
  #toBorne(error: unknown): AgentError {
    if (this.#sourceFailure !== undefined) throw this.#sourceFailure
    const shown = toAgentError(error)
    if (['CANCELED', 'INTERNAL', 'INTEGRITY', 'CAPACITY'].includes(shown.code)) throw error
    return shown
  }

  #refuse(transport: TransportName, reason: string): undefined {
    this.refused.push({ transport, reason })
    this.#options.log.info('transport refused', { disk: this.#target.disk.label, transport, reason })
  }
}
