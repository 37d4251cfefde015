import { z } from 'zod'
import { type Stage, STAGES } from '../../core/index.ts'
import type { StageProgram } from '../../stages/index.ts'
import { listOf } from './list-of.ts'
import { duration } from './quantity.ts'

const argument = z.string().regex(/^[^\0]*$/u, 'it holds a zero byte')

export const stages = z
  .array(
    z
      .strictObject({
        at: z.enum(STAGES),
        command: listOf(argument).refine((words) => words[0]?.startsWith('/') === true, {
          error: 'a program of the proxy is named by an absolute path, its arguments in a list after it',
        }),
        timeout: duration(100, 24 * 3_600_000).optional(),
        policy: z.enum(['require', 'try']).optional(),
      })
      .refine(({ at, policy }) => policy !== 'require' || failsRun(at), {
        path: ['policy'],
        error: 'the point is stored by then, and no failure can take it back: a program at postStore or postRun has the policy try',
      }),
  )
  .max(100)

const DEFAULT_TIMEOUT_MS = 60_000

const failsRun = (at: Stage): boolean => at !== 'postStore' && at !== 'postRun'

/** After the point is stored there is nothing left that a failure could save. */
const defaultPolicy = (at: Stage): 'require' | 'try' => (at.startsWith('pre') ? 'require' : 'try')

export const stagesOf = (file: z.output<typeof stages> | undefined): readonly StageProgram[] =>
  (file ?? []).map(({ at, command, timeout, policy }) =>
    Object.freeze({ at, command, timeoutMs: timeout ?? DEFAULT_TIMEOUT_MS, policy: policy ?? defaultPolicy(at) }),
  )
