import { z } from 'zod'
import { listOf } from './list-of.ts'
import { duration } from './quantity.ts'

/** Moments of one VM's run at which a program of the proxy may be run. `postRun` comes whatever the run came to. */
export const STAGES = ['preRun', 'preSnapshot', 'postSnapshot', 'postStore', 'postRun'] as const
export type Stage = (typeof STAGES)[number]

/** A program on the proxy, given facts of the run as JSON on its standard input; docs/jobs.md. */
export type StageScript = {
  readonly at: Stage
  /** Absolute path and arguments; no shell. */
  readonly command: readonly string[]
  readonly timeoutMs: number
  /** What its failure does to the run: ends it, or is a warning. */
  readonly policy: 'require' | 'try'
}

const argument = z.string().regex(/^[^\0]*$/u, 'it holds a zero byte')

export const stageScripts = z
  .array(
    z.strictObject({
      at: z.enum(STAGES),
      command: listOf(argument).refine((words) => words[0]?.startsWith('/') === true, {
        error: 'a program of the proxy is named by an absolute path, its arguments in a list after it',
      }),
      timeout: duration(100, 24 * 3_600_000).optional(),
      policy: z.enum(['require', 'try']).optional(),
    }),
  )
  .max(100)

const DEFAULT_TIMEOUT_MS = 60_000

/** After the point is stored there is nothing left that a failure could save. */
const defaultPolicy = (at: Stage): 'require' | 'try' => (at.startsWith('pre') ? 'require' : 'try')

export const stageScriptsOf = (file: z.output<typeof stageScripts> | undefined): readonly StageScript[] =>
  (file ?? []).map(({ at, command, timeout, policy }) =>
    Object.freeze({ at, command, timeoutMs: timeout ?? DEFAULT_TIMEOUT_MS, policy: policy ?? defaultPolicy(at) }),
  )
