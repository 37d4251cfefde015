import { type Abortable, AgentError, type Clock, isAgentError, type PointId, type PointSummary } from '../core/index.ts'
import type { JobJournal } from '../journal/index.ts'
import type { PointStore } from '../provider/index.ts'
import { type Calendar, guardPoints, planRetention, type RetentionPoint, type RetentionPolicy } from '../schedule/index.ts'
import { pointsInUse } from './points-in-use.ts'
import { chooseVms, type RepositoryVm, vmsOf } from './repository-vms.ts'

/** What planning needs: the repository's own list, who reads from it, and the time. */
export type PlanForgetDeps = {
  readonly points: PointStore
  /** The repository in messages, and in claims. */
  readonly url: string
  readonly journal: Pick<JobJournal, 'unfinished'>
  readonly clock: Clock
}

/** A policy for the VMs that expressions name (none = all), or points one by one. */
export type ForgetRequest =
  | {
      readonly by: 'policy'
      readonly policy: RetentionPolicy
      readonly calendar: Calendar
      readonly expressions: readonly string[]
      /** Why a point must stay that the policy would let go; asked only of such points, several times. */
      readonly mustStay?: ((point: PointSummary) => Promise<string | undefined>) | undefined
    }
  | {
      readonly by: 'points'
      /** Ids or unambiguous beginnings. */
      readonly points: readonly string[]
      /** Also a point that nothing newer replaces, and one that cannot be read. */
      readonly evenTheLast: boolean
    }

/** One point with what becomes of it, and why. */
export type PlannedPoint = {
  readonly summary: PointSummary
  readonly keep: boolean
  readonly reasons: readonly string[]
  /** Has to be readable before anything else of the VM is removed. */
  readonly guard: boolean
}

/** A VM with all of its points, newest first. */
export type VmForgetPlan = { readonly vm: RepositoryVm; readonly points: readonly PlannedPoint[] }

export type ForgetPlan = {
  readonly vms: readonly VmForgetPlan[]
  /** Points named one by one that cannot be read, so that nobody knows whose they are. */
  readonly unreadable: readonly PointId[]
}

/**
 * What a request would remove, by the repository's own list of this moment; changes nothing. A listing that fails throws, so that nothing is
 * ever decided on half of it. USAGE, NOT_FOUND, INTEGRITY and what the repository throws.
 */
export async function planForget(deps: PlanForgetDeps, request: ForgetRequest, options?: Abortable): Promise<ForgetPlan> {
  const listed: PointSummary[] = []
  for await (const point of deps.points.list(options)) listed.push(point)
  const usedBy = await pointsInUse(deps.journal)
  const vms = vmsOf(listed)
  if (request.by === 'points') return planPoints(deps, request, vms, usedBy, options)
  const now = deps.clock.now().getTime()
  const plans: VmForgetPlan[] = []
  for (const vm of chooseVms(vms, request.expressions, deps.url)) {
    const all = vm.points.map((summary) => retentionPoint(summary, usedBy))
    const planned = planRetention(all, request.policy, { calendar: request.calendar, now })
    const points: PlannedPoint[] = []
    for (const { point, keep, reasons, guard } of planned) {
      // Asked only of what would go; a later run removes it when it may.
      const stays = keep ? undefined : await whyItStays(deps, request.mustStay, point.summary, options)
      points.push({ summary: point.summary, keep: keep || stays !== undefined, reasons: stays === undefined ? reasons : [stays], guard })
    }
    plans.push({ vm, points: withNeeded(points) })
  }
  return { unreadable: [], vms: plans }
}

/** What a point that has to stay stands on stays too. The policy's own choice is so already. */
function withNeeded(points: readonly PlannedPoint[]): readonly PlannedPoint[] {
  const needed = new Map<PointId, PointId>()
  const byId = new Map(points.map((point) => [point.summary.id, point]))
  for (const { summary, keep } of points) {
    if (!keep) continue
    for (let above = summary; above.needs !== undefined && !needed.has(above.needs); ) {
      needed.set(above.needs, above.id)
      above = byId.get(above.needs)?.summary ?? { ...above, needs: undefined }
    }
  }
  return points.map((point) => {
    const above = needed.get(point.summary.id)
    return point.keep || above === undefined ? point : { ...point, keep: true, reasons: [`${above} stands on it`] }
  })
}

async function whyItStays(
  { points }: PlanForgetDeps,
  mustStay: ((point: PointSummary) => Promise<string | undefined>) | undefined,
  point: PointSummary,
  options?: Abortable,
): Promise<string | undefined> {
  const until = await points.lockedUntil?.(point.id, options)
  return until === undefined ? mustStay?.(point) : `locked until ${until.toISOString()}`
}

type UsedBy = (point: PointId) => string | undefined

const retentionPoint = (summary: PointSummary, usedBy: UsedBy): RetentionPoint & { readonly summary: PointSummary } => ({
  summary,
  id: summary.id,
  time: summary.time,
  // What a repository lists is committed, and its manifest could be read.
  complete: true,
  consistency: summary.consistency,
  missing: summary.missingDisks ?? Array.from({ length: summary.notProtected }, (_, index) => `disk ${index + 1}`),
  needs: summary.needs,
  tags: summary.tags,
  usedBy: usedBy(summary.id),
})

/** Points named one by one: removed unless something has them open, stands on them, or is worse than they are. */
async function planPoints(
  deps: PlanForgetDeps,
  request: ForgetRequest & { readonly by: 'points' },
  vms: readonly RepositoryVm[],
  usedBy: UsedBy,
  options?: Abortable,
): Promise<ForgetPlan> {
  const named = new Set<PointId>()
  const unreadable: PointId[] = []
  for (const text of request.points) {
    const { id, readable } = await resolve(deps, vms, text, request.evenTheLast, options)
    if (readable) named.add(id)
    else if (usedBy(id) === undefined) unreadable.push(id)
    else throw inUse(id, usedBy(id))
  }
  const plans: VmForgetPlan[] = []
  for (const vm of vms) {
    if (!vm.points.some(({ id }) => named.has(id))) continue
    const all = vm.points.map((summary) => retentionPoint(summary, usedBy))
    const guards = guardPoints(all)
    refuseUsed(all, named)
    if (!request.evenTheLast) refuseGuards(vm, named, guards)
    for (const { id } of vm.points) if (named.has(id)) await refuseLocked(deps, id, options)
    const left = guardPoints(all.filter(({ id }) => !named.has(id)))
    plans.push({
      vm,
      points: vm.points.map((summary) => {
        const keep = !named.has(summary.id)
        return { summary, keep, reasons: [keep ? 'not named' : 'named'], guard: left.has(summary.id) }
      }),
    })
  }
  return { vms: plans, unreadable }
}

async function resolve(
  deps: PlanForgetDeps,
  vms: readonly RepositoryVm[],
  text: string,
  evenTheLast: boolean,
  options?: Abortable,
): Promise<{ readonly id: PointId; readonly readable: boolean }> {
  try {
    await using reader = await deps.points.open(text, options)
    if (vms.some((vm) => vm.points.some(({ id }) => id === reader.id))) return { id: reader.id, readable: true }
    throw new AgentError('UNAVAILABLE', `The restore point ${reader.id} can be opened but is not listed by ${deps.url}.`, {
      subject: reader.id,
      retry: 'later',
    })
  } catch (error) {
    if (!isAgentError(error, 'INTEGRITY')) throw error
    if (evenTheLast) return { id: text as PointId, readable: false }
    throw new AgentError(
      'INTEGRITY',
      `The restore point ${text} cannot be read, so nobody knows whether it is the last of its VM: ${error.message}`,
      { subject: text, next: 'Look at it with "vcb check"; remove it all the same with --even-the-last.', cause: error },
    )
  }
}

function refuseUsed(points: readonly RetentionPoint[], named: ReadonlySet<PointId>): void {
  for (const { id, usedBy } of points) {
    if (named.has(id) && usedBy !== undefined) throw inUse(id, usedBy)
  }
  for (const { id, needs } of points) {
    if (needs === undefined || !named.has(needs) || named.has(id)) continue
    throw new AgentError('CONFLICT', `The restore point ${id} stands on ${needs} and cannot be read without it.`, {
      subject: needs,
      next: `Name ${id} as well, or keep both.`,
      retry: 'never',
    })
  }
}

async function refuseLocked(deps: PlanForgetDeps, id: PointId, options?: Abortable): Promise<void> {
  const until = await deps.points.lockedUntil?.(id, options)
  if (until === undefined) return
  throw new AgentError('CONFLICT', `The restore point ${id} is locked until ${until.toISOString()}.`, {
    subject: id,
    next: 'Nothing was removed; forget it after that.',
    retry: 'later',
  })
}

const inUse = (id: PointId, usedBy: string | undefined): AgentError =>
  new AgentError('CONFLICT', `The restore point ${id} is in use by ${usedBy}.`, {
    subject: id,
    next: 'Wait until that job has ended and run the command again.',
  })

function refuseGuards(vm: RepositoryVm, named: ReadonlySet<PointId>, guards: ReadonlyMap<PointId, string>): void {
  const guard = [...guards].find(([id]) => named.has(id))
  if (guard === undefined) return
  throw new AgentError('USAGE', `The restore point ${guard[0]} of ${vm.name} is ${guard[1]}.`, {
    subject: guard[0],
    next: 'Keep it, or remove it all the same with --even-the-last.',
  })
}
