import { z } from 'zod'
import type { VddkOptions } from '../../transport/index.ts'
import type { FileOf, Given } from './given.ts'

export type VddkConfig = Omit<VddkOptions, 'clock'>

/** VMware's own library, for those who own it (docs/vddk.md). */
export const vddkKeys = {
  vddk: z
    .strictObject({
      libdir: z.string().min(1),
      nbdkit: z.string().min(1).optional(),
      modes: z
        .string()
        .regex(/^[a-z]+(:[a-z]+)*$/, 'is no list like san:hotadd:nbdssl')
        .optional(),
      compression: z.enum(['none', 'zlib', 'fastlz', 'skipz']).optional(),
    })
    .optional(),
} as const

/** What a foreign program is given of the environment: never our secrets. */
const GIVEN = ['PATH', 'HOME', 'TMPDIR']

/** Undefined = the transport vddk is not to be had. */
export function vddkOf({ vddk: file }: FileOf<typeof vddkKeys>, given: Given): { readonly vddk: VddkConfig | undefined } {
  if (file === undefined) return { vddk: undefined }
  const { environment, local } = given
  const handed = GIVEN.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]] as const]))
  // A name alone is looked for in the PATH.
  const nbdkit = file.nbdkit?.includes('/') === true ? local(file.nbdkit) : file.nbdkit
  return { vddk: Object.freeze({ ...file, libdir: local(file.libdir), nbdkit, environment: Object.freeze(Object.fromEntries(handed)) }) }
}
