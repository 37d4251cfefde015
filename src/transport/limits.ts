import type { Abortable, BlockSource, Clock, DatastoreRef, Log } from '../core/index.ts'
import { createPace, type GateState, LatencyGate } from '../disk/index.ts'
import { gently } from './gently.ts'
import { createNfcLimits, type NfcLimits, type NfcLimitSettings } from './nfc-limits.ts'
import { createTokens, type Tokens, type Waiting } from './token-bucket.ts'

/** VMs with an open snapshot on one datastore: each is stunned when its redo log is committed, and all redo logs grow on the same storage. */
const SNAPSHOTS_PER_DATASTORE = 4
/** Disks read from one datastore at once. */
const STREAMS_PER_DATASTORE = 4

export type LimitSettings = {
  readonly nfc?: NfcLimitSettings | undefined
  readonly snapshotsPerDatastore?: number | undefined
  readonly streamsPerDatastore?: number | undefined
  /** Bytes a second read from vSphere as of now, over all jobs; no limit when absent or when it says undefined. */
  readonly rate?: (() => number | undefined) | undefined
  /** A datastore whose blocks take longer than this is read with fewer requests at once, ms; never when absent. */
  readonly latencyMs?: number | undefined
}

/** What one agent process takes from vSphere at most, over all its jobs. Another process counts for itself. */
export interface Limits {
  readonly nfc: NfcLimits
  /** The part of one job: `holder` is what others who wait are told, its VM's name. */
  of(holder: string, waiting?: Waiting): JobLimits
}

/** What one VM's backup takes of the limits. Order, so that nobody waits in a circle: snapshot, then stream, then NFC. Disposed after its snapshot is gone. */
export interface JobLimits extends Disposable, Waiting {
  /**
   * Room for one snapshot on each of these datastores, held until disposal; waits for it. Called once, before the snapshot. True: there was a wait, and what
   * was known of the VM may have changed. CANCELED while waiting.
   */
  snapshot(datastores: readonly DatastoreRef[], options?: Abortable): Promise<boolean>
  /** Room to read one disk from a datastore, given back when the answer is disposed. CANCELED while waiting. */
  stream(datastore: DatastoreRef, options?: Abortable): Promise<Disposable>
  /** A disk of this datastore, read no faster than the bandwidth and the datastore's latency allow. Owns `source`. */
  gently(source: BlockSource, datastore: DatastoreRef | undefined): BlockSource
}

export function createLimits(settings: LimitSettings, { clock, log }: { readonly clock: Clock; readonly log: Log }): Limits {
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
  const known = new Map<string, Tokens>()
  const bucket = (what: string, limit: number, { moref, name }: DatastoreRef): Tokens => {
    const key = `${what} ${moref}`
    const tokens = known.get(key) ?? createTokens(`${what} of datastore ${name}`, limit)
    known.set(key, tokens)
    return tokens
  }
  const snapshots = (store: DatastoreRef): Tokens =>
    bucket('open snapshots', settings.snapshotsPerDatastore ?? SNAPSHOTS_PER_DATASTORE, store)
  const streams = (store: DatastoreRef): Tokens => bucket('read streams', settings.streamsPerDatastore ?? STREAMS_PER_DATASTORE, store)
  return Object.freeze({
    nfc: createNfcLimits(settings.nfc),
    of: (holder: string, waiting: Waiting = {}): JobLimits => {
      const held = new DisposableStack()
      const options = { ...waiting, holder }
      return {
        ...waiting,
        async snapshot(datastores, abort) {
          // In one order for all, so that two VMs on the same two datastores do not wait for each other.
          const wanted = datastores.toSorted((one, other) => (one.moref < other.moref ? -1 : 1)).map(snapshots)
          let waited = false
          for (const tokens of new Set(wanted)) {
            waited ||= tokens.inUse >= tokens.limit
            held.use(await tokens.take({ ...options, ...abort }))
          }
          return waited
        },
        gently: (source, datastore) => {
          const gate = datastore === undefined ? undefined : gateOf(datastore)
          return gently(source, { ...waiting, pace, gate, store: datastore?.name ?? '', limitMs })
        },
        stream: (datastore, abort) => streams(datastore).take({ ...options, ...abort }),
        [Symbol.dispose]: () => held.dispose(),
      }
    },
  })
}
