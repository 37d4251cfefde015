import { z } from 'zod'
import { type FileOf, type Given, parseFlag } from './given.ts'
import { duration, type SpaceAmount, spaceAmount } from './quantity.ts'

/** Between two looks at a datastore's free space, ms: a full one stuns VMs, a look costs the host a little. */
const SPACE_INTERVAL_MS = 20_000

export type SpaceConfig = {
  readonly space: {
    /** False = free space is neither asked for before nor watched during a run. */
    readonly guard: boolean
    /** What must stay free on each datastore; 5 GiB or 5 %, whichever is less, when absent. */
    readonly reserve: SpaceAmount | undefined
    /** Between two looks at the datastores, ms. */
    readonly intervalMs: number
  }
}

export const spaceKeys = {
  space: z
    .strictObject({ guard: z.boolean().optional(), reserve: spaceAmount.optional(), interval: duration(100, 10 * 60_000).optional() })
    .optional(),
} as const

export function spaceOf({ space: file }: FileOf<typeof spaceKeys>, { flags, environment }: Given): SpaceConfig {
  return {
    space: Object.freeze({
      guard: flags.spaceGuard === false ? false : (file?.guard ?? true),
      reserve: parseFlag('--space-reserve', spaceAmount, flags.spaceReserve ?? environment['VCB_SPACE_RESERVE']) ?? file?.reserve,
      intervalMs: file?.interval ?? SPACE_INTERVAL_MS,
    }),
  }
}
