import { z } from 'zod'
import type { Compression } from '../../provider/index.ts'
import { type FileOf, type Given, parseFlag } from './given.ts'
import { duration } from './quantity.ts'

/** How long a command goes on trying to release what it holds while vCenter is away or a file is locked, ms. */
const RELEASE_FOR_MS = 15 * 60_000

/** How long a cancel waits for its releases when nothing else is said: a snapshot's removal takes minutes. ms */
const CANCEL_DEADLINE_MS = 10 * 60_000

/** How one run goes about its work. */
export type RunsConfig = {
  /** VMs backed up at the same time. */
  readonly parallel: number
  /** How a restic repository's blocks are compressed. */
  readonly compression: Compression
  /** Whether change tracking may be switched on. */
  readonly changeTracking: boolean
  /** How long a command tries to release what it holds before that is left to recovery, ms. */
  readonly releaseForMs: number
  /** From the cancel of a job to the moment its releases are given up and left to recovery, ms. */
  readonly cancelDeadlineMs: number
}

/** Words for levels, as a person chooses; those of restic where it has them. */
const LEVELS = { fast: 1, better: 3, best: 9 } as const

const compression = z
  .union([z.enum(['auto', 'off', 'fast', 'better', 'best']), z.coerce.number().int().min(1).max(19)], {
    error: 'auto, off, fast, better, best, or a zstd level from 1 to 19',
  })
  .transform((choice): Compression => (choice === 'fast' || choice === 'better' || choice === 'best' ? LEVELS[choice] : choice))

const aDay = duration(0, 24 * 3_600_000)

export const runsKeys = {
  parallel: z.int().min(1).max(64).optional(),
  compression: compression.optional(),
  changeTracking: z.boolean().optional(),
  releaseFor: aDay.optional(),
  cancelDeadline: aDay.optional(),
} as const

export function runsOf(file: FileOf<typeof runsKeys>, { flags, environment }: Given): RunsConfig {
  return {
    parallel: parseFlag('--parallel', z.coerce.number().int().min(1).max(64), flags.parallel) ?? file.parallel ?? 2,
    compression: parseFlag('--compression', compression, flags.compression) ?? file.compression ?? 'auto',
    changeTracking: flags.changeTracking ?? file.changeTracking ?? true,
    releaseForMs: parseFlag('--release-for', aDay, flags.releaseFor ?? environment['VCB_RELEASE_FOR']) ?? file.releaseFor ?? RELEASE_FOR_MS,
    cancelDeadlineMs:
      parseFlag('--cancel-deadline', aDay, flags.cancelDeadline ?? environment['VCB_CANCEL_DEADLINE']) ??
      file.cancelDeadline ??
      CANCEL_DEADLINE_MS,
  }
}
