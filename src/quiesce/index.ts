/**
 * Rank 2. How the frozen disks come to be consistent: decides before the snapshot whether to ask the guest, repeats and falls back as the
 * policy says, and tells afterwards what was really reached.
 *
 * A `Quiescer` returns a `Frozen`, whose disposal thaws. With VMware Tools the snapshot call itself freezes and thaws, so its `Frozen`
 * only carries what to ask CreateSnapshot for; a quiescer that runs scripts in the guest thaws on disposal.
 */
import type { Abortable, Clock, ConsistencyLevel, Log, QuiescePolicy, Verdict, VmConfig } from '../core/index.ts'
import type { GuestQuiesce } from '../vsphere/index.ts'

export interface Quiescer {
  readonly name: string
  /** Whether this VM's guest can be quiesced now, and why not. */
  probe(config: VmConfig, options?: Abortable): Promise<Verdict>
  /** Prepares the guest. GUEST. */
  freeze(config: VmConfig, options?: Abortable): Promise<Frozen>
}
export interface Frozen extends AsyncDisposable {
  /** What CreateSnapshot is to ask for; undefined = nothing. */
  readonly request: GuestQuiesce | undefined
  /** Level and reason from what the snapshot says about itself. */
  reached(snapshot: { readonly quiesced: boolean }): { readonly level: ConsistencyLevel; readonly reason: string }
}
export declare function toolsQuiescer(options?: { readonly timeoutMinutes?: number | undefined }): Quiescer
export declare function noQuiescer(): Quiescer

export type Consistent<T> = { readonly taken: T; readonly level: ConsistencyLevel; readonly reason: string }
/**
 * Takes a snapshot by `take`, quiesced as the policy allows. Guest faults are tried again (`attempts`, 3 when absent), then `require` fails
 * with GUEST and `try` takes it without. `take` is called once per attempt and must leave nothing when it throws; the guest is thawed as soon
 * as it has returned.
 */
export declare function takeConsistent<T extends { readonly quiesced: boolean }>(
  config: VmConfig,
  policy: QuiescePolicy,
  take: (request: GuestQuiesce | undefined) => Promise<T>,
  around: Abortable & {
    readonly clock: Clock
    readonly log: Log
    readonly quiescer?: Quiescer | undefined
    readonly attempts?: number | undefined
    /** ms before the next attempt; 10 000 when absent. */
    readonly pauseMs?: number | undefined
  },
): Promise<Consistent<T>>
