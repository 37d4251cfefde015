import { type Clock, type Log, toAgentError } from '../core/index.ts'
import type { Due } from '../schedule/index.ts'
import type { ProxyDrains, TakenWork, WorkQueue } from '../state/index.ts'
import type { DueClaims } from './due-claims.ts'

export type SharedDueClaimsParts = {
  readonly queue: WorkQueue
  readonly drains: Pick<ProxyDrains, 'list'>
  readonly clock: Clock
  readonly log: Log
  /** Name of this proxy. */
  readonly name: string
  /** Whether this proxy can back up the VM at all: its site, the transports of its job. */
  readonly serves: (due: Due) => Promise<boolean>
  /** Aborted: this process begins nothing more, because others take over its work. */
  readonly fenced: AbortSignal
}

/** Work that runs is kept so often. Milliseconds. */
const KEEP_MS = 5_000
/** Whether this proxy is drained is asked so often. Milliseconds. */
const DRAINED_MS = 3_000

/**
 * What is due, over several proxies: a run of a VM that came due at a moment is one work of the queue, which one proxy takes; the run that follows a failed one is
 * another. What a proxy had taken when it died comes back, and runs elsewhere. Disposed when nothing runs any more.
 */
export class SharedDueClaims implements DueClaims, AsyncDisposable {
  readonly #parts: SharedDueClaimsParts
  readonly #taken = new Map<string, TakenWork>()
  readonly #keeping: Disposable
  #drained: { readonly at: number; readonly isDrained: boolean } | undefined

  constructor(parts: SharedDueClaimsParts) {
    this.#parts = parts
    const { clock, log } = parts
    this.#keeping = clock.every(
      KEEP_MS,
      () => this.#keep(),
      (error) => log.warn('the queue could not be told what runs here', { error: toAgentError(error).message }),
    )
  }

  async take(due: Due): Promise<boolean> {
    const { queue, fenced, serves } = this.#parts
    const key = keyOf(due)
    if (fenced.aborted) return false
    if (this.#taken.has(key)) return true
    if ((await this.isDrained()) || !(await serves(due))) return false
    const { vm, job, mode, dueAt, attempt } = due
    const data = { job, vm: vm.name, mode, dueAt: new Date(dueAt).toISOString(), attempt }
    const work = await queue.take({ key, about: `${vm.vcenterUuid}/${vm.instanceUuid}`, data })
    if (work === undefined) return false
    this.#taken.set(key, work)
    return true
  }

  async settle(due: Due, ran: boolean): Promise<void> {
    const { queue, fenced } = this.#parts
    const key = keyOf(due)
    const work = this.#taken.get(key)
    if (work === undefined) return
    this.#taken.delete(key)
    // What a fenced process had comes back by itself.
    if (fenced.aborted) return
    if (ran) await queue.done(work)
    else await queue.giveUp(work)
  }

  /** Whether this proxy takes nothing new. */
  async isDrained(): Promise<boolean> {
    const { clock, drains, name } = this.#parts
    const now = clock.monotonicMs()
    if (this.#drained === undefined || now - this.#drained.at >= DRAINED_MS) {
      const isDrained = (await drains.list()).some((each) => each.name === name)
      this.#drained = { at: now, isDrained }
    }
    return this.#drained.isDrained
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#keeping[Symbol.dispose]()
  }

  async #keep(): Promise<void> {
    if (!this.#parts.fenced.aborted) await this.#parts.queue.keep([...this.#taken.values()])
  }
}

const keyOf = ({ job, vm, dueAt, attempt }: Due): string => JSON.stringify([job, vm.vcenterUuid, vm.instanceUuid, dueAt, attempt])
