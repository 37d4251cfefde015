import { AgentError, type ConsistencyLevel, type PointId } from '../core/index.ts'
import { type Calendar } from './calendar.ts'
import { guardPoints } from './guard-points.ts'
import { COUNTED_RULES, type CountedRule, isEmptyPolicy, type RetentionPolicy } from './retention-policy.ts'
import { formatSpan, spanBefore } from './span.ts'

/** One restore point of a VM, as far as retention looks at it. */
export type RetentionPoint = {
  readonly id: PointId
  /** ISO 8601, when the snapshot was taken. One that is no time makes the point one that is not counted. */
  readonly time: string
  /** Committed and readable. */
  readonly complete: boolean
  readonly consistency: ConsistencyLevel
  /** Disks of the VM that the point does not hold, for whatever reason, excluded on request included. */
  readonly missing: readonly string[]
  /** The point it cannot be read without (archives); absent where every point is a complete image. */
  readonly needs?: PointId | undefined
  readonly tags?: readonly string[] | undefined
  /** What has it open now, in words; such a point is kept. */
  readonly usedBy?: string | undefined
}

/** What becomes of a point, and why: at least one reason. */
export type RetentionVerdict<P extends RetentionPoint = RetentionPoint> = {
  readonly point: P
  readonly keep: boolean
  readonly reasons: readonly string[]
  /** Kept whatever the policy: nothing newer is as good. Has to be readable before anything of the VM is removed. */
  readonly guard: boolean
}

export type RetentionOptions = {
  readonly calendar: Calendar
  /** ms. A wrong clock can only make more be kept: see docs/retention.md. */
  readonly now: number
}

/** How much later than now a point may be dated and still count: clocks of vCenter and proxy differ. */
const CLOCK_SKEW_MS = 10 * 60_000
/** Year 9999, the last that ISO 8601 writes with four digits. */
const LAST_TIME = Date.UTC(10_000, 0, 1)

/**
 * Decides for every point of one VM whether a policy keeps it. Newest first; the order given and double entries do not matter, and what it
 * forgets of some points it also forgets of these and more, so that an incomplete list costs nothing.
 * USAGE for an empty policy that would remove something.
 */
export function planRetention<P extends RetentionPoint>(
  points: readonly P[],
  policy: RetentionPolicy,
  options: RetentionOptions,
): readonly RetentionVerdict<P>[] {
  const dated = datedPoints(points, options.now)
  const counted = dated.filter(({ uncounted }) => uncounted === undefined)
  const reasons = new Map(dated.map(({ point, uncounted }) => [point.id, uncounted === undefined ? [] : [uncounted]]))
  const keep = (id: PointId, reason: string): void => void reasons.get(id)?.push(reason)
  for (const rule of COUNTED_RULES) keepCounted(counted, rule, policy[rule] ?? 0, options.calendar, keep)
  keepWithin(counted, policy, options.now, keep)
  for (const { point } of counted) {
    for (const list of policy.keepTags ?? [])
      if (list.every((tag) => point.tags?.includes(tag))) keep(point.id, `tag ${list.join(' and ')}`)
    if (point.usedBy !== undefined) keep(point.id, `in use by ${point.usedBy}`)
  }
  const guards = guardPoints(counted.map(({ point }) => point))
  for (const [id, reason] of guards) keep(id, reason)
  keepNeeded(dated, reasons)
  const verdicts = dated.map(({ point }) => {
    const why = reasons.get(point.id) ?? []
    return { point, keep: why.length > 0, reasons: why.length > 0 ? why : ['no rule keeps it'], guard: guards.has(point.id) }
  })
  if (isEmptyPolicy(policy)) refuseLoss(verdicts)
  return verdicts
}

type DatedPoint<P> = {
  readonly point: P
  readonly at: number
  /** Why it is neither counted nor removed. */
  readonly uncounted: string | undefined
}

/** Newest first, each id once; equal times in the order of their ids. */
function datedPoints<P extends RetentionPoint>(points: readonly P[], now: number): readonly DatedPoint<P>[] {
  const byId = Map.groupBy(points, ({ id }) => id)
  const dated = [...byId.values()].flatMap(([point, ...again]): DatedPoint<P>[] => {
    if (point === undefined) return []
    const twins = again.filter((other) => !sameFacts(point, other))
    const at = Date.parse(point.time)
    const wrong = Number.isNaN(at) || at < -62_135_596_800_000 || at >= LAST_TIME
    const uncounted =
      !point.complete || twins.some(({ complete }) => !complete)
        ? 'not complete: not counted, not removed by policy'
        : twins.length > 0
          ? 'listed twice with different facts: not counted, not removed by policy'
          : wrong
            ? 'without a readable time: not counted, not removed by policy'
            : at > now + CLOCK_SKEW_MS
              ? 'dated in the future: kept until then, not counted'
              : undefined
    return [{ point, at: wrong ? Number.NEGATIVE_INFINITY : at, uncounted }]
  })
  return dated.sort((a, b) => (a.at === b.at ? (a.point.id < b.point.id ? 1 : -1) : b.at > a.at ? 1 : -1))
}

const sameFacts = (a: RetentionPoint, b: RetentionPoint): boolean =>
  a.time === b.time &&
  a.complete === b.complete &&
  a.consistency === b.consistency &&
  a.needs === b.needs &&
  a.usedBy === b.usedBy &&
  sameTexts(a.tags, b.tags) &&
  sameTexts(a.missing, b.missing)

const sameTexts = (a: readonly string[] = [], b: readonly string[] = []): boolean => [...a].sort().join('\n') === [...b].sort().join('\n')

type Keep = (id: PointId, reason: string) => void

/**
 * restic's rule: the newest point of each of the `count` newest periods that have one (`last`: each point is a period), and the oldest point of
 * all while periods are left over, so that the history kept is as long as can be.
 */
function keepCounted<P extends RetentionPoint>(
  counted: readonly DatedPoint<P>[],
  rule: CountedRule,
  count: number,
  calendar: Calendar,
  keep: Keep,
): void {
  const seen = new Set<string>()
  for (const [index, { point, at }] of counted.entries()) {
    if (seen.size >= count) return
    const period = rule === 'last' ? String(index) : calendar.periodsOf(at)[rule]
    if (!seen.has(period)) keep(point.id, rule === 'last' ? `last ${count}` : `${rule} ${period}`)
    else if (index === counted.length - 1) keep(point.id, `the oldest: ${rule} has room for ${count - seen.size} more`)
    seen.add(period)
  }
}

function keepWithin<P extends RetentionPoint>(counted: readonly DatedPoint<P>[], policy: RetentionPolicy, now: number, keep: Keep): void {
  const { within } = policy
  const newest = counted[0]?.at
  if (within === undefined || newest === undefined) return
  const begin = spanBefore(Math.min(newest, now), within)
  for (const { point, at } of counted) if (at > begin) keep(point.id, `within ${formatSpan(within)}`)
}

/** Who stands on another point keeps it, down to the one that stands on none. */
function keepNeeded<P extends RetentionPoint>(dated: readonly DatedPoint<P>[], reasons: Map<PointId, string[]>): void {
  const byId = new Map(dated.map(({ point }) => [point.id, point]))
  const left = dated.map(({ point }) => point).filter(({ id }) => (reasons.get(id)?.length ?? 0) > 0)
  for (let point = left.pop(); point !== undefined; point = left.pop()) {
    const below = point.needs === undefined ? undefined : byId.get(point.needs)
    const why = below === undefined ? undefined : reasons.get(below.id)
    if (below === undefined || why === undefined) continue
    const first = why.length === 0
    why.push(`${point.id} stands on it`)
    if (first) left.push(below)
  }
}

function refuseLoss(verdicts: readonly RetentionVerdict[]): void {
  const lost = verdicts.filter(({ keep }) => !keep)
  if (lost.length === 0) return
  throw new AgentError('USAGE', `The policy keeps nothing and would remove ${lost.length} restore points.`, {
    next: 'Say what to keep: at least one of --keep-last, --keep-hourly, --keep-daily, --keep-weekly, --keep-monthly, --keep-yearly, --keep-within.',
  })
}
