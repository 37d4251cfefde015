import type { Encoder } from './encoder.ts'
import type { ManagedObject } from './managed-object.ts'
import type { SoapServerOptions } from './server.ts'
import type { LabSession, Peer } from './session.ts'
import type { SessionObjects } from './session-objects.ts'
import type { TypeTable } from './type-table.ts'
import type { LabRef, LabValue } from './value.ts'

/** What the wire's own objects work with. */
export type WireContext = {
  readonly options: SoapServerOptions
  readonly types: TypeTable
  readonly encoder: (version: number) => Encoder
  /** Views, filters and collectors of one session. */
  readonly objects: (session: LabSession) => SessionObjects
  /** Any object: the session's own, the wire's, the model's. */
  readonly lookup: (ref: LabRef, session: LabSession | undefined) => ManagedObject | undefined
  /** SHA-1 thumbprint of the server's certificate. */
  readonly thumbprint: () => string
}

/** A call of a method that the wire itself serves. */
export type WireCall = {
  readonly context: WireContext
  /** Absent only for the methods open before login. */
  readonly session: LabSession | undefined
  readonly self: ManagedObject
  readonly args: Readonly<Record<string, LabValue>>
  readonly signal: AbortSignal
  readonly version: number
  readonly peer: Peer
  readonly setCookie: (header: string) => void
}
export type WireMethods = {
  readonly [managedType: string]: { readonly [method: string]: (call: WireCall) => Promise<LabValue | void> | LabValue | void }
}

/** The session of a call that the dispatcher lets through only when logged in. */
export function sessionOf(call: WireCall): LabSession {
  if (call.session === undefined) throw new Error('a method that needs a session was called without one')
  return call.session
}
