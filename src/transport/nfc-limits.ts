import { MIB } from '../core/index.ts'
import type { Buckets, Tokens } from './buckets.ts'
import { createMemoryBuckets } from './memory-buckets.ts'

/** NFC buffers that one session of ours takes from its host, bytes. */
const SESSION_BYTES = 4 * MIB
/** What our sessions may take together of a host's NFC buffers, which are 48 MB before ESXi 8 and 96 MB since, for all its clients. */
export const MEMORY_PER_HOST = 44 * MIB
/** Connections that one vCenter hands out at once. */
export const PER_VCENTER = 52

export type NfcLimitSettings = {
  /** Sessions of one host at once; as many as the memory has room for when absent. */
  readonly perHost?: number | undefined
  /** Bytes of one host's NFC buffers. */
  readonly memoryPerHost?: number | undefined
  readonly perVcenter?: number | undefined
}

/** Which limits an NFC session counts against, reading or writing. One object for all transports and runs of a process, made by the composition root. */
export interface NfcLimits {
  /**
   * Every limit that a session of this host, asked for at this vCenter, counts against; always taken in this order: who waits for a busy host
   * holds nothing that others need.
   */
  of(vcenter: string, host: string): readonly Tokens[]
}

export function createNfcLimits(limits: NfcLimitSettings = {}, buckets: Buckets = createMemoryBuckets()): NfcLimits {
  const room = Math.max(1, Math.floor((limits.memoryPerHost ?? MEMORY_PER_HOST) / SESSION_BYTES))
  const perHost = Math.min(limits.perHost ?? room, room)
  const named = (name: string, limit: number): Tokens => buckets.tokens(name, name, limit)
  return Object.freeze({
    of: (vcenter: string, host: string) => [
      named(`NFC sessions of host ${host}`, perHost),
      named(`NFC connections through ${vcenter}`, limits.perVcenter ?? PER_VCENTER),
    ],
  })
}
