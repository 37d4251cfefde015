/**
 * Rank 2. Pure functions over data and a given time: what may be forgotten. Nothing here reads a clock, a repository or a file, so a year of
 * nights is simulated in seconds and every rule is tested over arbitrary points, policies and clocks.
 *
 * `planRetention` decides for the points of one VM which a policy keeps and why, in words; `flow/forget-points.ts` applies it. What no policy
 * can do is in docs/retention.md: the last complete point of a VM stays, and a worse point never stands in for a better one.
 */
export { type Calendar, createCalendar, type Periods } from './calendar.ts'
export { type CountedRule, isEmptyPolicy, parsePolicy, type RetentionPolicy } from './retention-policy.ts'
export { planRetention, type RetentionOptions, type RetentionPoint, type RetentionVerdict } from './retention.ts'
export { guardPoints } from './guard-points.ts'
export { formatSpan, parseSpan, type Span, spanBefore } from './span.ts'
