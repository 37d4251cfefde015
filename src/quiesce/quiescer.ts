import type { Abortable, ConsistencyLevel, Verdict, VmConfig } from '../core/index.ts'
import type { GuestQuiesce } from '../vsphere/index.ts'

/**
 * One way of bringing a guest to rest. Made by the composition root; holds nothing between calls.
 *
 * The rule every quiescer keeps: a guest never stays frozen longer than its limit, whatever dies. So a freeze has two limits, and
 * the second one works without this process, without vCenter and without the network:
 * - `FreezeLimit` here: ends the freeze when the limit passes, as long as this process lives and reaches the other side;
 * - on the other side: `inSnapshot` quiescers pass a time-out with the request (VMware Tools: minutes, 5 at least); `untilThawed` quiescers arm a
 *   timer inside the guest that thaws after `limitMs`, **before** they freeze, and disarm it only after the thaw.
 */
export interface Quiescer {
  readonly name: string
  /** Where the guest is frozen: inside the CreateSnapshot call, from `freeze` to the disposal of what it returns, or not at all. */
  readonly freezes: 'inSnapshot' | 'untilThawed' | 'never'
  /** Whether this VM's guest can be quiesced now, and why not. Changes nothing. */
  probe(config: VmConfig, options?: Abortable): Promise<Verdict>
  /** Brings the guest to rest for `limitMs` at most, or prepares that the snapshot call does. GUEST. */
  freeze(config: VmConfig, options: FreezeOptions): Promise<Frozen>
}

export type FreezeOptions = Abortable & {
  /** After so long the guest must go on by itself, ms. */
  readonly limitMs: number
}

/** A guest at rest; disposal thaws it, as soon as the snapshot exists. Disposed once. */
export interface Frozen extends AsyncDisposable {
  /** What CreateSnapshot is to ask the guest for; undefined = nothing. */
  readonly request: GuestQuiesce | undefined
  /** The level really reached and its reason, from what the finished snapshot says about itself. */
  reached(snapshot: { readonly quiesced: boolean }): Reached
}

export type Reached = { readonly level: ConsistencyLevel; readonly reason: string }
