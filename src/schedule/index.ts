/**
 * Rank 2. Pure functions over data and a given time: what is due and may begin, and what may be forgotten. Nothing here reads a clock, a repository or a file, so a year of
 * nights is simulated in seconds and every rule is tested over arbitrary points, policies and clocks.
 *
 * `planRetention` decides for the points of one VM which a policy keeps and why, in words; `flow/forget-points.ts` applies it. What no policy
 * can do is in docs/retention.md: the last complete point of a VM stays, and a worse point never stands in for a better one.
 *
 * `createDuePlanner` says for each VM of a job which run may begin now and when to look again, `admit` which of those that wait fit beside those that
 * run, and `simulate` plays both over any stretch of time: docs/schedule.md.
 */
export { admit, byPriority, byUrgency, type Place, type Room, vmOf, type Waiting } from './admission.ts'
export { createCronMoments, type CronMoments } from './cron-moments.ts'
export { createDuePlanner, type DuePlanner } from './due.ts'
export type { Blackout, Due, FullRule, JobSchedule, PastRun, RetryRule, VmRecord, Weekday, Window } from './job-schedule.ts'
export {
  type RpoMiss,
  simulate,
  type Simulated,
  type SimulatedJob,
  type SimulatedRun,
  type SimulatedVm,
  type Simulation,
} from './simulate.ts'
export { createOpenHours, type OpenHours } from './open-hours.ts'
export { type Calendar, createCalendar, type Periods } from './calendar.ts'
export { COUNTED_RULES, type CountedRule, isEmptyPolicy, parsePolicy, type RetentionPolicy } from './retention-policy.ts'
export { planRetention, type RetentionOptions, type RetentionPoint, type RetentionVerdict } from './retention.ts'
export { guardPoints } from './guard-points.ts'
export { formatSpan, parseSpan, type Span, spanBefore } from './span.ts'
