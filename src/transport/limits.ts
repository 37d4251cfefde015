import type { Abortable, BlockSource, Clock, DatastoreRef, Log } from '../core/index.ts'
import { createPace, type GateState, LatencyGate } from '../disk/index.ts'
import { gently } from './gently.ts'
import { createNfcLimits, MEMORY_PER_HOST, type NfcLimits, type NfcLimitSettings, PER_VCENTER } from './nfc-limits.ts'
import type { Buckets, Token, Tokens, Waiting } from './buckets.ts'
import { createMemoryBuckets } from './memory-buckets.ts'

/** VMs with an open snapshot on one datastore: each is stunned when its redo log is committed, and all redo logs grow on the same storage. */
const SNAPSHOTS_PER_DATASTORE = 4
/** Disks read from or written to one datastore at once. */
const STREAMS_PER_DATASTORE = 4

/** What holds where nothing is set. */
export const DEFAULT_LIMITS = {
  snapshotsPerDatastore: SNAPSHOTS_PER_DATASTORE,
  streamsPerDatastore: STREAMS_PER_DATASTORE,
  /** Bytes of one host's NFC buffers; as many sessions as have room in them. */
  nfcMemoryPerHost: MEMORY_PER_HOST,
  nfcPerVcenter: PER_VCENTER,
} as const

export type LimitSettings = {
  readonly nfc?: NfcLimitSettings | undefined
  readonly snapshotsPerDatastore?: number | undefined
  readonly streamsPerDatastore?: number | undefined
  /** Bytes a second read from vSphere and written to it as of now, over all jobs; no limit when absent or when it says undefined. */
  readonly rate?: (() => number | undefined) | undefined
  /** A datastore whose blocks take longer than this is read with fewer requests at once, ms; never when absent. */
  readonly latencyMs?: number | undefined
}

/**
 * What is taken of vSphere at most: snapshots, streams and NFC sessions over all processes that count in the same `Buckets`, bandwidth and latency over all jobs
 * of this one.
 */
export interface Limits {
  readonly nfc: NfcLimits
  /** The part of one job: `holder` is what others who wait are told, its VM's name. */
  of(holder: string, waiting?: Waiting): JobLimits
}

/** What one VM's backup, mount or restore takes of the limits. Order, so that nobody waits in a circle: snapshot, then stream, then NFC. Disposed after its snapshot is gone. */
export interface JobLimits extends AsyncDisposable, Waiting {
  /**
   * Room for one snapshot on each of these datastores, held until disposal; waits for it. Called once, before the snapshot. True: there was a wait, and what
   * was known of the VM may have changed. CANCELED while waiting.
   */
  snapshot(datastores: readonly DatastoreRef[], options?: Abortable): Promise<boolean>
  /** Room to read one disk from a datastore, or to write one there, given back when the answer is disposed. CANCELED while waiting. */
  stream(datastore: DatastoreRef, options?: Abortable): Promise<Token>
  /** A disk of this datastore, read no faster than the bandwidth and the datastore's latency allow. Owns `source`. */
  gently(source: BlockSource, datastore: DatastoreRef | undefined): BlockSource
  /** Resolves when so many bytes may be written: within the bandwidth, together with what is read. CANCELED while waiting. */
  pace(bytes: number, options?: Abortable): Promise<void>
}

export type LimitParts = { readonly clock: Clock; readonly log: Log; readonly buckets?: Buckets | undefined }

export function createLimits(settings: LimitSettings, { clock, log, buckets = createMemoryBuckets() }: LimitParts): Limits {
  const { rate, latencyMs: limitMs } = settings
  const pace = rate === undefined ? undefined : createPace(rate, clock)
  const gates = new Map<string, LatencyGate>()
  const gateOf = ({ moref, name }: DatastoreRef): LatencyGate | undefined => {
    if (limitMs === undefined) return undefined
    const onChange = (state: GateState): void =>
      log.info('the reading of a datastore follows its latency', { datastore: name, limitMs, ...state })
    const gate = gates.get(moref) ?? new LatencyGate({ clock, limitMs, onChange })
    gates.set(moref, gate)
    return gate
  }
  // By its URL, which names the volume and not a place in one vCenter's inventory: that of another has the same references.
  const bucket = (what: string, limit: number, { moref, name, url }: DatastoreRef): Tokens =>
    buckets.tokens(`${what} of ${url === '' ? moref : url}`, `${what} of datastore ${name}`, limit)
  const snapshots = (store: DatastoreRef): Tokens =>
    bucket('open snapshots', settings.snapshotsPerDatastore ?? SNAPSHOTS_PER_DATASTORE, store)
  const streams = (store: DatastoreRef): Tokens => bucket('disk streams', settings.streamsPerDatastore ?? STREAMS_PER_DATASTORE, store)
  return Object.freeze({
    nfc: createNfcLimits(settings.nfc, buckets),
    of: (holder: string, waiting: Waiting = {}): JobLimits => {
      const held = new AsyncDisposableStack()
      const options = { ...waiting, holder }
      return {
        ...waiting,
        async snapshot(datastores, abort) {
          // In one order for all, so that two VMs on the same two datastores do not wait for each other.
          const wanted = datastores.toSorted((one, other) => (one.moref < other.moref ? -1 : 1)).map(snapshots)
          let waited = false
          for (const tokens of new Set(wanted)) {
            const token = held.use(await tokens.take({ ...options, ...abort }))
            waited ||= token.waited
          }
          return waited
        },
        gently: (source, datastore) => {
          const gate = datastore === undefined ? undefined : gateOf(datastore)
          return gently(source, { ...waiting, pace, gate, store: datastore?.name ?? '', limitMs })
        },
        pace: async (bytes, abort) => pace?.wait(bytes, abort),
        stream: (datastore, abort) => streams(datastore).take({ ...options, ...abort }),
        [Symbol.asyncDispose]: () => held.disposeAsync(),
      }
    },
  })
}
