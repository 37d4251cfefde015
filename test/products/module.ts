import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/** `integrations/`, from where the scripts run in these tests as they run on a proxy. */
export const INTEGRATIONS = join(import.meta.dirname, '..', '..', 'integrations')

const calls = z.strictObject({
  /** Arguments; `@VM@`, `@RUN@` (the product's own number of the job), `@DIR@` (the mount directory). */
  pre: z.array(z.string()),
  post: z.array(z.string()),
  environment: z.record(z.string(), z.string()),
  umask: z.string().regex(/^0[0-7]{3}$/),
  directory: z.string(),
  /** A daemon's hooks see nothing of an administrator's environment. */
  emptyEnvironment: z.boolean(),
  /** Time limit of the product for the before script, 0 when it has none. */
  seconds: z.int().nonnegative(),
  /** What the product does when pre-backup fails: ends, calls post-backup, or backs up all the same (and calls post-backup). */
  afterFailedPre: z.enum(['stop', 'post', 'backup']),
  /** When it calls post-backup. After a kill of the product itself nobody calls it. */
  postAfter: z.array(z.enum(['success', 'failure', 'cancel'])),
  /** The program that the product calls for both, where it allows one name only. */
  program: z.string().optional(),
})

const module = z.strictObject({
  product: z.string().regex(/^[a-z0-9-]+$/),
  title: z.string(),
  /** `real`: the product itself ran these scripts in a test (`versions` says which); `emulated`: a caller that does what its documentation says. */
  proof: z.enum(['real', 'emulated']),
  versions: z.array(z.string()),
  /** Processes without which a job is over: those of one job, or a daemon that calls post-backup whenever it lives. `parent`: whoever calls. */
  owners: z.array(z.string()),
  calls,
})

export type Module = z.infer<typeof module>

/** Every integration, in order of its name. */
export function readModules(): readonly Module[] {
  return readdirSync(INTEGRATIONS)
    .filter((name) => existsSync(join(INTEGRATIONS, name, 'module.json')))
    .sort()
    .map((name) => module.parse(JSON.parse(readFileSync(join(INTEGRATIONS, name, 'module.json'), 'utf8'))))
}
