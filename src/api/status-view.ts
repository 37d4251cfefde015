import { z } from 'zod'
import { bytes, count, milliseconds, mode, moment, type View, vmView } from './view.ts'

/** A run that waits for its turn. */
export const waitingRun = z.object({
  run: z.string(),
  job: z.string().optional(),
  vm: vmView,
  mode: mode.optional(),
  dueAt: moment.optional(),
  since: moment.describe('in the queue since'),
  reason: z.string().describe('why it is due, or who asked for it'),
  waitsFor: z.string().optional(),
  rpo: z.enum(['kept', 'at risk', 'missed']).optional(),
})

/** How far a run is. All bytes are of the disks to be read. */
export const progressView = z.object({
  doneBytes: bytes,
  totalBytes: bytes,
  bytesPerSecond: z.number().nonnegative().optional(),
  /** `scsi0:1`, and the transport it is read by. */
  disk: z.string().optional(),
  transport: z.string().optional(),
})
export type ProgressView = View<typeof progressView>

export const runningRun = z.object({
  run: z.string(),
  job: z.string().optional(),
  vm: vmView,
  mode: mode.optional(),
  begunAt: moment,
  progress: progressView.optional(),
})

const heldView = z.object({
  claim: z.string(),
  kind: z.string(),
  what: z.string(),
  certain: z.boolean(),
  since: z.string().optional(),
  attempts: count,
  reason: z.string().optional(),
  triedAt: z.string().optional(),
})

const outcomeView = z.object({
  result: z.enum(['succeeded', 'failed', 'canceled', 'recovered']),
  reason: z.string().optional(),
  facts: z.unknown().optional(),
})

const journaledView = z.object({
  job: z.string(),
  kind: z.string(),
  subject: z.string().optional(),
  since: z.string(),
  ageMs: milliseconds,
  pid: z.int().optional(),
  leaseUntil: z.string().optional(),
  directory: z.string().optional(),
  until: z.string().optional(),
  waitsFor: z.string().optional(),
  cancel: z.object({ by: z.string(), at: z.string() }).optional(),
  held: z.array(heldView),
  outcome: outcomeView.optional(),
  release: z.string().optional(),
})

export const limitView = z.object({
  name: z.string(),
  limit: count,
  uses: z.array(z.object({ holder: z.string(), pid: z.int().optional(), host: z.string().optional(), waits: z.boolean() })),
})

const repositoryStatusView = z.object({
  url: z.string(),
  points: count,
  size: z.object({ at: moment, bytes, unknownBytes: bytes, unusedBytes: bytes.optional() }).optional(),
  structureAt: moment.optional().describe('the last whole look at its structure'),
  dataSince: moment.optional().describe('since when all of its data were read at least once'),
  problems: z.array(z.object({ what: z.string(), point: z.string().optional(), slice: count.optional(), at: moment })),
  locks: z
    .object({
      renewedAt: moment.optional(),
      short: count.describe('points that were not protected as long as they are to be after that'),
      problem: z.object({ what: z.string(), at: moment }).optional().describe('why the last renewal did not come to its end'),
    })
    .optional()
    .describe('the renewal of Object Locks'),
})

/** What `vcb status --json` says of the state database. */
export const journalView = z.object({
  running: z.array(journaledView),
  leases: z.array(journaledView),
  leftOver: z.array(journaledView),
  limits: z.array(limitView),
  repositories: z.array(repositoryStatusView).optional(),
  finished: z.array(
    z.looseObject({
      job: z.string(),
      kind: z.string(),
      subject: z.string().optional(),
      begunAt: z.string(),
      finishedAt: z.string(),
      outcome: outcomeView,
    }),
  ),
})

export const agentStatusView = z.object({
  agent: z.string().describe('id of the installation'),
  version: z.string(),
  pid: z.int(),
  since: moment,
  draining: z.boolean().describe('nothing new begins'),
  waiting: z.array(waitingRun),
  running: z.array(runningRun),
  journal: journalView,
})
export type AgentStatusView = View<typeof agentStatusView>
