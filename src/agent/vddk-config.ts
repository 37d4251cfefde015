import { z } from 'zod'
import type { VddkOptions } from '../transport/index.ts'
import type { Environment } from './config.ts'

/** `vddk` of vcb.yaml: VMware's own library, for those who own it (docs/vddk.md). */
export const vddkSchema = z.strictObject({
  libdir: z.string().min(1),
  nbdkit: z.string().min(1).optional(),
  modes: z
    .string()
    .regex(/^[a-z]+(:[a-z]+)*$/, 'is no list like san:hotadd:nbdssl')
    .optional(),
  compression: z.enum(['none', 'zlib', 'fastlz', 'skipz']).optional(),
})

export type VddkConfig = Omit<VddkOptions, 'clock'>

/** What a foreign program is given of the environment: never our secrets. */
const GIVEN = ['PATH', 'HOME', 'TMPDIR']

/** `local` makes a path of the file absolute. */
export function vddkConfigOf(
  file: z.infer<typeof vddkSchema> | undefined,
  local: (path: string) => string,
  environment: Environment,
): VddkConfig | undefined {
  if (file === undefined) return undefined
  const given = GIVEN.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]] as const]))
  // A name alone is looked for in the PATH.
  const nbdkit = file.nbdkit?.includes('/') === true ? local(file.nbdkit) : file.nbdkit
  return Object.freeze({ ...file, libdir: local(file.libdir), nbdkit, environment: Object.freeze(Object.fromEntries(given)) })
}
