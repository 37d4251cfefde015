import type { Abortable, Clock, Log, MoRef, Secret } from '../core/index.ts'
import type { HttpClient } from './http-client.ts'
import type { Endpoint, Trust, VsphereTrust } from './trust.ts'
import type { VimFields } from './vim-data.ts'
import type { VimNode } from './vim-node.ts'

export type VsphereOptions = {
  /** `https://host[:port][/sdk]`, or `host[:port]`. */
  readonly url: string
  readonly user: string
  readonly password: Secret
  readonly trust: VsphereTrust
  readonly clock: Clock
  readonly log: Log
  /** Shows up in the server's logs; one per job. */
  readonly operationId?: string | undefined
  /** Longest wait for the answer of one call, ms; 120 000 when absent. */
  readonly timeoutMs?: number | undefined
}

export type VsphereAbout = {
  readonly fullName: string
  readonly version: string
  readonly apiVersion: string
  readonly build: string
  readonly kind: 'vcenter' | 'esxi'
  /** On a standalone ESXi, which has none, the host's hardware uuid. */
  readonly instanceUuid: string
}

export type CallOptions = Abortable & {
  /** What the call is about, for messages: a VM's name. */
  readonly subject?: string | undefined
  /** Longest wait for this answer, ms. */
  readonly timeoutMs?: number | undefined
  /** `urn:internalvim25` for the few calls that live there. */
  readonly namespace?: string | undefined
}

/** One logged-in session at a vCenter or ESXi. Disposal logs out. */
export interface Vsphere extends AsyncDisposable {
  /** `host:port`. */
  readonly host: string
  readonly user: string
  readonly about: VsphereAbout
  readonly clock: Clock
  readonly log: Log
  /** Counts logins; session-bound objects (views, filters, collectors) made under another number are gone. */
  readonly login: number
  /** A managed object of the service content: `rootFolder`, `searchIndex`, … UNAVAILABLE naming it when this server has none. */
  service(name: string): MoRef
  hasService(name: string): boolean
  /** `UserSession.key`, what HasPrivilegeOnEntities asks for; not the cookie. */
  sessionKey(): string
  /**
   * One method. The answer's `returnval` elements (none = null). Reads are sent again on a broken connection, changing calls never once they
   * may have arrived; after NotAuthenticated the session logs in once more and repeats the call, which the server had refused.
   */
  call(method: string, self: MoRef, args?: VimFields, options?: CallOptions): Promise<readonly VimNode[]>
  /** Plain HTTP at the same server, with the session's cookie; for datastore files, leases and tags. */
  readonly http: SessionHttp
}

/** HTTP with the session's cookie. Paths are percent-encoded already. */
export interface SessionHttp {
  readonly client: HttpClient
  readonly endpoint: Endpoint
  readonly trust: Trust
  readonly credentials: { readonly user: string; readonly password: Secret }
  /** `vmware_soap_session=…`, as received. */
  cookie(): string
  /** Logs in again, unless somebody did since `login`. */
  renew(login: number): Promise<void>
}
