import type { Abortable, ConsistencyLevel, Verdict, VmConfig } from '../core/index.ts'
import type { GuestQuiesce } from '../vsphere/index.ts'

/** One way of bringing a guest to rest. Made by the composition root; holds nothing between calls. */
export interface Quiescer {
  readonly name: string
  /** Whether this VM's guest can be quiesced now, and why not. Changes nothing. */
  probe(config: VmConfig, options?: Abortable): Promise<Verdict>
  /** Brings the guest to rest, or prepares that the snapshot call does. GUEST. */
  freeze(config: VmConfig, options?: Abortable): Promise<Frozen>
}

/** A guest at rest; disposal thaws it, once, as soon as the snapshot exists. */
export interface Frozen extends AsyncDisposable {
  /** What CreateSnapshot is to ask the guest for; undefined = nothing. */
  readonly request: GuestQuiesce | undefined
  /** The level really reached and its reason, from what the finished snapshot says about itself. */
  reached(snapshot: { readonly quiesced: boolean }): Reached
}

export type Reached = { readonly level: ConsistencyLevel; readonly reason: string }
