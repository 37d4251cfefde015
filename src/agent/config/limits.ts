import { z } from 'zod'
import { GIB, MIB } from '../../core/index.ts'
import type { LimitSettings } from '../../transport/index.ts'
import { type FileOf, type Given, parseFlag } from './given.ts'
import { bandwidth, type BandwidthRule, byteSize, duration } from './quantity.ts'

/** What this process takes of vSphere at most; docs/transports.md. */
export type LimitsConfig = Omit<LimitSettings, 'rate'> & {
  /** Disks of one VM read at the same time. */
  readonly disksPerVm: number
  /** VMs of one host, and of one vCenter, that the agent backs up at once; no limit when absent. */
  readonly runsPerHost?: number | undefined
  readonly runsPerVcenter?: number | undefined
  /** Bytes a second read from vSphere, by the time of day; none = no limit. */
  readonly bandwidth: readonly BandwidthRule[]
}

export const limitsKeys = {
  limits: z
    .strictObject({
      nfcPerHost: z.int().min(1).max(64).optional(),
      nfcMemoryPerHost: byteSize(4 * MIB, GIB).optional(),
      nfcPerVcenter: z.int().min(1).max(1000).optional(),
      snapshotsPerDatastore: z.int().min(1).max(1000).optional(),
      streamsPerDatastore: z.int().min(1).max(1000).optional(),
      disksPerVm: z.int().min(1).max(64).optional(),
      runsPerHost: z.int().min(1).max(1000).optional(),
      runsPerVcenter: z.int().min(1).max(1000).optional(),
      bandwidth: bandwidth.optional(),
      latency: duration(1, 60_000).optional(),
    })
    .optional(),
} as const

/** The bandwidth that flags or environment set stands instead of the file's. */
export function limitsOf({ limits: file }: FileOf<typeof limitsKeys>, { flags, environment }: Given): { readonly limits: LimitsConfig } {
  const given = parseFlag('--bandwidth', bandwidth, flags.bandwidth ?? environment['VCB_BANDWIDTH'])
  return {
    limits: Object.freeze({
      nfc: { perHost: file?.nfcPerHost, memoryPerHost: file?.nfcMemoryPerHost, perVcenter: file?.nfcPerVcenter },
      snapshotsPerDatastore: file?.snapshotsPerDatastore,
      streamsPerDatastore: file?.streamsPerDatastore,
      disksPerVm: file?.disksPerVm ?? 1,
      runsPerHost: file?.runsPerHost,
      runsPerVcenter: file?.runsPerVcenter,
      bandwidth: given ?? file?.bandwidth ?? [],
      latencyMs: file?.latency,
    }),
  }
}
