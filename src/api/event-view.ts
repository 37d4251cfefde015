import { z } from 'zod'
import type { RunRecord } from '../core/index.ts'
import { runRecordView } from './run-view.ts'
import { progressView } from './status-view.ts'
import { mode, moment, type View, vmView } from './view.ts'

const ofRun = { at: moment, run: z.string(), job: z.string().optional(), vm: vmView }
const waiting = z.object({ type: z.literal('waiting'), ...ofRun })
const begun = z.object({ type: z.literal('begun'), ...ofRun, mode: mode.optional() })
const progress = z.object({ type: z.literal('progress'), ...ofRun, progress: progressView })
const ended = z.object({ type: z.literal('ended'), at: moment, record: runRecordView })
const notice = z.object({ type: z.literal('notice'), at: moment, level: z.enum(['info', 'warn', 'error']), message: z.string() })

/** What is told of the agent's work as it happens. */
export const agentEvent = z.discriminatedUnion('type', [waiting, begun, progress, ended, notice])

export type AgentEvent =
  | View<typeof waiting>
  | View<typeof begun>
  | View<typeof progress>
  | View<typeof notice>
  | { readonly type: 'ended'; readonly at: string; readonly record: RunRecord }
