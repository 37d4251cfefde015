import { z } from 'zod'
import { bytes, count, errorView, milliseconds, mode, moment, result, text, type View, vmView } from './view.ts'

/** What one run of one VM came to: `RunRecord` as JSON, where what is undefined is absent. */
export const runRecordView = z.object({
  run: z.string(),
  job: z.string().optional(),
  vm: vmView,
  mode: mode.optional(),
  dueAt: moment.optional(),
  begunAt: moment,
  endedAt: moment,
  result,
  skipped: z.string().optional().describe('why a program of the proxy wanted the VM left alone this time'),
  error: errorView.optional(),
  point: z.string().optional(),
  repository: z.string(),
  consistency: z.string().optional(),
  totalBytes: bytes,
  readBytes: bytes,
  storedBytes: bytes,
  snapshotLifetimeMs: milliseconds.optional(),
  frozenMs: milliseconds.optional(),
  notProtected: z.array(z.object({ what: z.string(), reason: z.string() })),
  warnings: z.array(z.string()),
})

/** Most rows that one answer holds. */
const MOST_ROWS = 10_000

export const limit = z.coerce
  .number()
  .int()
  .min(1)
  .max(MOST_ROWS)
  .optional()
  .describe('this many at most, newest first; 100 when not given')

/** Which ended runs. All that is given must fit. */
export const historyQuery = z.strictObject({
  job: text.optional(),
  vm: text.optional().describe('name, path, moref or instance uuid'),
  result: result.optional(),
  since: moment.optional(),
  until: moment.optional(),
  limit,
})
export type HistoryQuery = View<typeof historyQuery>

/** Who is to be backed up now: a job, or what expressions select, or what expressions select of a job. */
export const runRequest = z
  .strictObject({
    job: text.optional(),
    select: z.array(text).min(1).max(100).optional().describe('selection expressions, as of "vcb backup"'),
    mode: mode.optional(),
  })
  .refine(({ job, select }) => job !== undefined || select !== undefined, 'a job, or expressions to select VMs by')
export type RunRequest = View<typeof runRequest>

export const startedRuns = z.object({ runs: z.array(z.object({ run: z.string(), vm: vmView })) })
export type StartedRuns = View<typeof startedRuns>

export const cancelRequest = z.strictObject({ target: text.describe('a run or job by its id, or a VM by name, path or uuid') })

/** One thing that was asked to end: a job of the journal, or a run that had not begun. */
export const canceledView = z.object({
  /** A job's id, or a waiting run's. */
  id: z.string(),
  kind: z.string(),
  subject: z.string().optional(),
  ended: z.boolean().describe('false: it was asked to, and ends in order'),
})
export type CanceledView = View<typeof canceledView>

export const pointQuery = z.strictObject({
  vm: text.optional().describe('name or instance uuid'),
  repository: text.optional(),
  since: moment.optional(),
  until: moment.optional(),
  limit,
})
export type PointQueryView = View<typeof pointQuery>

/** `PointSummary` as JSON. */
export const pointView = z.object({
  id: z.string(),
  repository: z.string(),
  time: z.string(),
  vmName: z.string(),
  instanceUuid: z.string(),
  vcenterUuid: z.string(),
  mode,
  run: z.string(),
  consistency: z.enum(['crash', 'filesystem', 'application']),
  totalBytes: bytes,
  readBytes: bytes,
  storedBytes: bytes,
  notProtected: count,
  missingDisks: z.array(z.string()).optional(),
  needs: z.string().optional(),
  tags: z.array(z.string()).optional(),
})
