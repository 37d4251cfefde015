import { z } from 'zod'
import { ERROR_CODES, type ErrorCode, type Stage, type StageFacts, STAGES } from '../core/index.ts'

const codes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]

/** One line of JSON on the standard input of a program at a stage. What is not known by then is absent. docs/formats/stage-program.md. */
export const stageDocumentSchema = z
  .object({
    version: z.literal(1),
    stage: z.enum(STAGES),
    recovered: z
      .literal(true)
      .optional()
      .describe('the process of the run died, and another one makes up for this stage: it may have been run already'),
    job: z.string(),
    run: z.string().describe('id of the run, as in "vcb history" and in the log'),
    vm: z.object({
      name: z.string(),
      moref: z.string(),
      instanceUuid: z.string(),
      biosUuid: z.string(),
      vcenterUuid: z.string(),
      path: z.string().describe('where it is in the inventory'),
    }),
    dueAt: z.string().optional().describe('the moment the run was meant for, ISO 8601; absent when somebody asked for it'),
    mode: z.enum(['full', 'incremental']).optional(),
    repository: z.string().describe('its URL, without a login'),
    disks: z.array(
      z.object({ key: z.int(), label: z.string(), uuid: z.string().optional(), capacityBytes: z.int(), fileName: z.string() }),
    ),
    snapshot: z.object({ moref: z.string(), name: z.string() }).optional().describe('from postSnapshot on, when it was made'),
    point: z.string().optional().describe('id of the restore point, from postStore on'),
    result: z
      .enum(['succeeded', 'failed', 'canceled', 'skipped', 'unknown'])
      .optional()
      .describe('at postRun and postSnapshot; unknown: the process of the run died'),
    error: z.object({ code: z.enum(codes), message: z.string(), next: z.string().optional() }).optional(),
  })
  .describe('What a program at a stage of a vcb-proxy run gets on its standard input.')

export type StageDocument = z.infer<typeof stageDocumentSchema>

/** With its end of line. `recovered`: told by another process than that of the run. */
export function stageDocument(stage: Stage, facts: StageFacts, recovered: boolean): string {
  const ends = stage === 'postRun' || stage === 'postSnapshot'
  const { job, run, vm, dueAt, mode, repository, disks, snapshot, point, result = ends ? 'unknown' : undefined, error } = facts
  const document: Record<keyof StageDocument, unknown> = {
    version: 1,
    stage,
    recovered: recovered ? true : undefined,
    job,
    run,
    vm,
    dueAt,
    mode,
    repository,
    disks,
    snapshot,
    point,
    result,
    error,
  }
  return `${JSON.stringify(document)}\n`
}
