import { z } from 'zod'
import { DEFAULT_TRANSPORTS, TRANSPORT_NAMES, type TransportName } from '../../core/index.ts'
import type { ChunkCompression } from '../../nfc/index.ts'
import { DEFAULT_REOPEN, type ReopenPolicy } from '../../transport/index.ts'
import { type FileOf, type Given, localIf, parseFlag } from './given.ts'
import { duration } from './quantity.ts'

/** Ways of restoring a VM to vSphere in the order they are tried by default: each keeps thin disks thin but the last. */
const DEFAULT_RESTORE_TRANSPORTS: readonly TransportName[] = ['lease', 'nbdssl', 'https']

/** An attached disk appears in the guest within seconds; a busy host takes a minute. ms */
const APPEAR_MS = 120_000

/** The order of transports, and what some of them are to know. */
export type TransportsConfig = {
  readonly transports: readonly TransportName[]
  /** The same for restores to vSphere: `lease` and `https` bring the whole VM, the others write its disks. */
  readonly restoreTransports: readonly TransportName[]
  /** How often a transport that broke in mid-read is opened again. */
  readonly resume: ReopenPolicy
  /** The transport hotadd: what the VM this machine is shows of itself and its disks. */
  readonly hotadd: {
    /** Name, uuid or moref of that VM; found by the SMBIOS uuid when absent. */
    readonly proxy: string | undefined
    /** `/sys` and `/dev`. */
    readonly sysfs: string
    readonly devices: string
    /** How long an attached disk may take to appear, ms. */
    readonly appearMs: number
  }
  /** The transports nbd and nbdssl. */
  readonly nfc: {
    /** What the host is asked to do to each chunk. */
    readonly compression: ChunkCompression
    /** Sessions per disk, while the host has room. */
    readonly sessions: number
  }
}

const transportName = z.enum(TRANSPORT_NAMES, {
  error: (issue) => `"${String(issue.input)}" is not a transport; known are ${TRANSPORT_NAMES.join(', ')}`,
})
/** A list, or text with `:`, `,` or blanks between the names; a name given twice is tried once. */
export const transportList = z
  .preprocess(
    (value) => (typeof value === 'string' ? value.split(/[:,\s]+/).filter((name) => name !== '') : value),
    z.array(transportName).min(1),
  )
  .transform((names): readonly TransportName[] => [...new Set(names)])

export const transportsKeys = {
  transports: transportList.optional(),
  restore: z.strictObject({ transports: transportList.optional() }).optional(),
  resume: z
    .strictObject({
      attempts: z.int().min(0).max(100).optional(),
      lastAttempts: z.int().min(0).max(1000).optional(),
      delay: duration(1, 60_000).optional(),
      maxDelay: duration(1, 10 * 60_000).optional(),
    })
    .optional(),
  hotadd: z
    .strictObject({
      proxy: z.string().min(1).optional(),
      sysfs: z.string().min(1).optional(),
      devices: z.string().min(1).optional(),
      appear: duration(100, 3_600_000).optional(),
    })
    .optional(),
  nfc: z
    .strictObject({
      compression: z.enum(['none', 'zlib', 'fastlz', 'skipz']).optional(),
      sessions: z.int().min(1).max(8).optional(),
    })
    .optional(),
} as const

export function transportsOf(file: FileOf<typeof transportsKeys>, given: Given): TransportsConfig {
  const { flags, environment } = given
  const order = parseFlag('--transport', transportList, flags.transport ?? environment['VCB_TRANSPORT'])
  const restoreOrder = parseFlag('--transport', transportList, flags.restoreTransport ?? environment['VCB_RESTORE_TRANSPORT'])
  return {
    transports: Object.freeze([...(order ?? file.transports ?? DEFAULT_TRANSPORTS)]),
    restoreTransports: Object.freeze([...(restoreOrder ?? file.restore?.transports ?? DEFAULT_RESTORE_TRANSPORTS)]),
    resume: Object.freeze({
      attempts: file.resume?.attempts ?? DEFAULT_REOPEN.attempts,
      lastAttempts: file.resume?.lastAttempts ?? DEFAULT_REOPEN.lastAttempts,
      delayMs: file.resume?.delay ?? DEFAULT_REOPEN.delayMs,
      maxDelayMs: file.resume?.maxDelay ?? DEFAULT_REOPEN.maxDelayMs,
    }),
    hotadd: Object.freeze({
      proxy: file.hotadd?.proxy,
      sysfs: localIf(given, file.hotadd?.sysfs) ?? '/sys',
      devices: localIf(given, file.hotadd?.devices) ?? '/dev',
      appearMs: file.hotadd?.appear ?? APPEAR_MS,
    }),
    nfc: Object.freeze({
      compression: file.nfc?.compression ?? 'skipz',
      sessions: file.nfc?.sessions ?? 1,
    }),
  }
}
