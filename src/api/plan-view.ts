import { z } from 'zod'
import { errorView, milliseconds, mode, moment, result, text, type View, vmView } from './view.ts'

const jobVm = z.object({
  vm: vmView,
  lastGoodAt: moment.optional(),
  next: moment.optional(),
  mode: mode.optional(),
  reason: z.string().optional(),
  deadline: moment.optional().describe('when its RPO is missed unless a good point comes first'),
})

/** A configured job, as `vcb jobs --json` says it, and how its last run ended. */
export const jobView = z.object({
  name: z.string(),
  select: z.array(z.string()),
  repository: z.string(),
  copyTo: z.array(z.string()),
  next: moment.optional(),
  timeZone: z.string(),
  cron: z.array(z.string()),
  rpoMs: milliseconds.optional(),
  windows: z.array(z.string()),
  priority: z.number(),
  last: z.object({ at: moment, result }).optional(),
  /** Absent until the selection was resolved once. */
  vms: z.array(jobVm).optional(),
  error: errorView.optional().describe('why its selection names no VM'),
})
export type JobView = View<typeof jobView>

/** Longest time that is planned, ms. */
const LONGEST_PLAN_MS = 32 * 24 * 3_600_000

export const planQuery = z
  .strictObject({ from: moment, to: moment, job: text.optional().describe('only what this job does') })
  .refine(
    ({ from, to }) => Date.parse(to) > Date.parse(from) && Date.parse(to) - Date.parse(from) <= LONGEST_PLAN_MS,
    'ends after it begins, and not more than 32 days later',
  )

const plannedRun = z.object({
  job: z.string(),
  vm: vmView,
  mode,
  dueAt: moment,
  begunAt: moment,
  endedAt: moment,
  reason: z.string(),
  deadline: moment.optional(),
  windowCloses: moment.optional(),
})

/** What will run when, as `vcb plan --json` says it. */
export const planView = z.object({
  from: moment,
  to: moment,
  runs: z.array(plannedRun),
  misses: z.array(z.object({ job: z.string(), vm: vmView, from: moment, to: moment })),
  overruns: z.array(plannedRun),
  left: z.array(z.object({ job: z.string(), vm: vmView })),
  empty: z.array(z.object({ job: z.string(), error: errorView })),
  assumed: z.array(z.string()),
})
export type PlanView = View<typeof planView>
