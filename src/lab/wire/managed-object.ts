import type { LabSession } from './session.ts'
import type { LabRef, LabValue } from './value.ts'

/** An object of the server. Properties are computed when asked for; the wire walks nested and keyed paths below them. */
export interface ManagedObject {
  readonly ref: LabRef
  /** Value of a top-level property of the object's type, `undefined` when unset. May be called often; must not have effects. */
  property(name: string): LabValue
}

/** Where the wire looks objects up. The property collector and views walk it. */
export interface ObjectStore {
  /** Looks up by `ref.value`; the type in the reference is only the caller's word. */
  get(ref: LabRef): ManagedObject | undefined
}

export type MethodCall = {
  readonly session: LabSession
  readonly self: ManagedObject
  /** Arguments by wire name, decoded by the declared types; unset ones absent. Arrays that were not given are absent. */
  readonly args: Readonly<Record<string, LabValue>>
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal
}

/** Throws VimFault. Returns the value of `returnval`; `undefined` for none. A `*_Task` method returns the reference `Tasks.run` gave. */
export type Method = (call: MethodCall) => Promise<LabValue | void> | LabValue | void

/** Methods by managed type and wire name. A method under a base type (`ManagedEntity.Destroy_Task`) serves its subtypes. */
export type Methods = { readonly [managedType: string]: { readonly [method: string]: Method } }
