import {
  type Abortable,
  AgentError,
  anySignal,
  isAgentError,
  type Log,
  type PointId,
  throwIfAborted,
  toAgentError,
  type VmRef,
} from '../core/index.ts'
import type { Catalog } from '../catalog/index.ts'
import type { Claims, VmLocks } from '../journal/index.ts'
import type { PointDeletion, PointStore } from '../provider/index.ts'
import { type ForgetRequest, planForget, type PlanForgetDeps, type PlannedPoint, type VmForgetPlan } from './plan-forget.ts'
import { recordLocks } from './record-locks.ts'
import { removalOrder } from './removal-order.ts'

export type ForgetDeps = PlanForgetDeps & {
  readonly locks: VmLocks
  readonly catalog: Pick<Catalog, 'remove'>
  readonly log: Log
}

/** What became of one VM; the points in `forgotten` are gone, also where an error ended it. */
export type VmForgetResult = VmForgetPlan & { readonly forgotten: readonly PointId[]; readonly error?: AgentError | undefined }

export type ForgetResult = {
  readonly vms: readonly VmForgetResult[]
  /** Unreadable points that were named and removed. */
  readonly unreadable: readonly PointId[]
}

/**
 * Forgets points: list and plan → exclusive lock → list and plan again → per VM: lock it → before each removal read the points that must stay →
 * remove, oldest first, one by one, each a claim. A point goes only when both plans say so; one that appeared meanwhile is not touched, and a
 * list that lost a point, or could not be read, removes nothing. The failure of a VM does not stop the others; a destination that refuses
 * removals ends the run at the first. Idempotent. Errors of the run as a whole: as `planForget`, CONFLICT (locked), CANCELED.
 */
export async function forgetPoints(
  deps: ForgetDeps,
  claims: Claims,
  request: ForgetRequest,
  options: Abortable = {},
): Promise<ForgetResult> {
  const planned = await planForget(deps, request, options)
  if (planned.unreadable.length === 0 && planned.vms.every(({ points }) => points.every(({ keep }) => keep))) {
    return { vms: planned.vms.map((vm) => ({ ...vm, forgotten: [] })), unreadable: [] }
  }
  await using deletion = await deps.points.beginDelete({ ...options, recordLocks: recordLocks(claims) })
  const signal = anySignal(options.signal, deletion.signal)
  const confirmed = await planForget(deps, request, { signal })
  const run = new ForgetRun(deps, claims, deletion, signal)
  const vms: VmForgetResult[] = []
  for (const plan of planned.vms) vms.push(await run.forgetOf(plan, confirmed.vms))
  for (const point of planned.unreadable) await run.remove(point)
  return { vms, unreadable: planned.unreadable }
}

/** One run under the repository's lock. */
class ForgetRun {
  readonly #deps: ForgetDeps
  readonly #claims: Claims
  readonly #deletion: PointDeletion
  readonly #options: Abortable
  /** Set by the first refusal: the destination takes no removals at all. */
  #refused: AgentError | undefined

  constructor(deps: ForgetDeps, claims: Claims, deletion: PointDeletion, signal: AbortSignal | undefined) {
    this.#deps = deps
    this.#claims = claims
    this.#deletion = deletion
    this.#options = { signal }
  }

  /** Throws only what ends the run: a cancel, a lost lock. */
  async forgetOf(plan: VmForgetPlan, confirmed: readonly VmForgetPlan[]): Promise<VmForgetResult> {
    const forgotten: PointId[] = []
    try {
      const current = confirmed.find(({ vm }) => vm.instanceUuid === plan.vm.instanceUuid && vm.vcenterUuid === plan.vm.vcenterUuid)
      const doomed = agreed(plan, current)
      if (doomed.length > 0) await this.#forget(plan, current?.points ?? [], doomed, forgotten)
      return { ...plan, forgotten }
    } catch (error) {
      throwIfAborted(this.#options)
      const shown = toAgentError(error)
      this.#deps.log.error('restore points could not be forgotten', { vm: plan.vm.name, forgotten, error: shown.message })
      return { ...plan, forgotten, error: shown }
    }
  }

  async #forget(plan: VmForgetPlan, points: readonly PlannedPoint[], doomed: readonly PlannedPoint[], forgotten: PointId[]): Promise<void> {
    if (this.#refused !== undefined) throw this.#refused
    const guards = points.filter(({ guard, keep }) => guard && keep)
    const [any] = [...guards, ...points]
    if (any === undefined) return
    // A backup of this VM may be building on one of these points.
    const vm = await this.#vmOf(plan, any.summary.id)
    const lock = await this.#claims.take('vmLock', { vm }, [], (claim) => this.#deps.locks.acquire(vm, claim))
    await using _unlocked = { [Symbol.asyncDispose]: () => this.#claims.release(lock.id) }
    for (const point of removalOrder(doomed)) {
      for (const guard of guards) await this.#proveReadable(plan, guard)
      await this.remove(point.summary.id)
      forgotten.push(point.summary.id)
    }
  }

  /** Removes one point: either it is listed or it is gone, whenever this ends; what is left of its files is a claim until they are. */
  async remove(point: PointId): Promise<void> {
    throwIfAborted(this.#options)
    const { url, catalog, log } = this.#deps
    const removal = await this.#claims.take('pointRemoval', { url, point }, [], async () => {
      await this.#delete(point)
      return { url, point }
    })
    await this.#claims.release(removal.id)
    log.info('restore point forgotten', { point, repository: url })
    try {
      await catalog.remove(url, point)
    } catch (error) {
      log.warn('the point is gone but still in the catalog', { point, error: toAgentError(error).message })
    }
  }

  async #delete(point: PointId): Promise<void> {
    try {
      await this.#deletion.delete(point, this.#options)
    } catch (error) {
      // Somebody was faster: what was wanted is so.
      if (isAgentError(error, 'NOT_FOUND')) return
      if (!isAgentError(error, 'CONFIG')) throw error
      this.#refused = new AgentError('CONFIG', `${this.#deps.url} does not let restore points be removed: ${error.message}`, {
        subject: this.#deps.url,
        next: 'If it is kept append-only, forget its points from where removing is allowed; nothing else was tried.',
        cause: error,
      })
      throw this.#refused
    }
  }

  async #vmOf(plan: VmForgetPlan, point: PointId): Promise<VmRef> {
    try {
      await using reader = await this.#deps.points.open(point, this.#options)
      return reader.manifest.vm
    } catch (error) {
      throw unreadable(plan, point, 'its newest restore point', error)
    }
  }

  async #proveReadable(plan: VmForgetPlan, guard: PlannedPoint): Promise<void> {
    try {
      await readPoint(this.#deps.points, guard.summary.id, this.#options)
    } catch (error) {
      throw unreadable(plan, guard.summary.id, guard.reasons.join(', '), error)
    }
  }
}

/** Opens a point and each of its disks: manifest, trees, and that every block they name is known. */
async function readPoint(points: PointStore, id: PointId, options: Abortable): Promise<void> {
  await using reader = await points.open(id, options)
  for (const { key } of reader.manifest.disks) await (await reader.disk(key, options))[Symbol.asyncDispose]()
}

/** The points both plans remove. CONFLICT when the second list lacks a point of the first: somebody removes, or the list is not whole. */
function agreed(plan: VmForgetPlan, current: VmForgetPlan | undefined): readonly PlannedPoint[] {
  const doomed = plan.points.filter(({ keep }) => !keep)
  if (doomed.length === 0) return []
  const now = new Map(current?.points.map((point) => [point.summary.id, point]))
  const lost = plan.points.find(({ summary }) => !now.has(summary.id))
  if (lost !== undefined) {
    throw new AgentError('CONFLICT', `The list of restore points of ${plan.vm.name} changed: ${lost.summary.id} is not in it any more.`, {
      subject: plan.vm.name,
      next: 'Nothing of this VM was removed; run the command again.',
    })
  }
  return doomed.filter(({ summary }) => now.get(summary.id)?.keep === false)
}

function unreadable(plan: VmForgetPlan, point: PointId, what: string, error: unknown): AgentError {
  const shown = toAgentError(error)
  if (!isAgentError(shown, 'INTEGRITY', 'NOT_FOUND', 'CONFIG')) return shown
  return new AgentError('INTEGRITY', `Nothing more of ${plan.vm.name} is forgotten: ${point} (${what}) cannot be read: ${shown.message}`, {
    subject: plan.vm.name,
    next: 'Run "vcb check" and take a new full backup before older points are removed.',
    cause: error,
  })
}
