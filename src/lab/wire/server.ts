import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock, Log } from '../../core/index.ts'
import type { ChangeFeed } from './change-feed.ts'
import type { Events } from './events.ts'
import type { VimFault } from './fault.ts'
import type { Methods, ObjectStore } from './managed-object.ts'
import type { LabKind } from './service-content.ts'
import type { LabSession, Sessions } from './session.ts'
import type { Tasks } from './task.ts'
import type { LabObject, LabRef, LabValue } from './value.ts'

/** A call about to run, for fault rules. `session` is absent before login. */
export type CallInfo = {
  readonly method: string
  readonly self: LabRef
  readonly args: Readonly<Record<string, LabValue>>
  readonly session: LabSession | undefined
}

/**
 * What a fault rule does to a call. `cut` destroys the connection, `before` the call runs (default) or `after` it, so that its reply is lost;
 * `expire` ends the caller's session, so that the call faults NotAuthenticated.
 */
export type Intervention =
  | { readonly action: 'cut'; readonly when?: 'before' | 'after' }
  | { readonly action: 'delay'; readonly ms: number }
  | { readonly action: 'fault'; readonly fault: VimFault }
  | { readonly action: 'expire' }

export type SoapServerOptions = {
  readonly kind: LabKind
  readonly about: LabObject
  readonly rootFolder: LabRef
  readonly store: ObjectStore
  readonly methods: Methods
  readonly feed: ChangeFeed
  readonly sessions: Sessions
  readonly tasks: Tasks
  readonly events: Events
  readonly clock: Clock
  readonly log: Log
  /** Directory in which the certificate and key are kept (`server.pem`, `server.key`), made at the first start. */
  readonly directory: string
  /** Address to listen on; default 127.0.0.1. */
  readonly host?: string
  /** Default 0: any free port. */
  readonly port?: number
  /** Objects per page of the property collector when the client asks for none or more; default 500. */
  readonly pageLimit?: number
  /** Asked before every SOAP call; several interventions apply in order. */
  readonly before?: (
    call: CallInfo,
  ) => Promise<Intervention | readonly Intervention[] | undefined> | Intervention | readonly Intervention[] | undefined
  /** Other paths (`/folder`, `/nfc`, `/api`, control). Answers true when it has taken the request; else 404. */
  readonly routes?: (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>
}

export type SoapServer = AsyncDisposable & {
  /** `https://127.0.0.1:43210` */
  readonly url: string
  readonly port: number
  /** Upper-case hex pairs joined by colons. */
  readonly thumbprints: { readonly sha1: string; readonly sha256: string }
  /** PEM of the self-signed certificate. */
  readonly certificate: string
  /** PEM of its key, for further listeners of the lab (NFC on another port). */
  readonly privateKey: string
}

/** Starts the TLS server and answers once it accepts connections. Disposal ends sessions, waits and connections. */
export async function serveSoap(options: SoapServerOptions): Promise<SoapServer> {
  throw new Error(`not built yet: ${options.kind}`)
}
