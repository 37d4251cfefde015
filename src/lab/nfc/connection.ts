import { once } from 'node:events'
import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import { DetachableSocket } from './detachable-socket.ts'
import { ConnectionOver, Inbox } from './inbox.ts'
import { Outlet } from './outlet.ts'

export type Identity = { readonly certificate: string; readonly privateKey: string; readonly sha256: string }

export type Speech = { readonly inbox: Inbox; readonly outlet: Outlet }

/** Hosts were only ever seen to speak TLS 1.2 here; a later version could still send tickets when the session is dropped. */
export const secureContext = (identity: Identity): SecureContext =>
  createSecureContext({ key: identity.privateKey, cert: identity.certificate, maxVersion: 'TLSv1.2' })

/** The server's side of TLS on a socket that outlives it. */
export class TlsTurn {
  readonly inbox: Inbox
  readonly outlet: Outlet
  readonly #shim: DetachableSocket | undefined

  private constructor(shim: DetachableSocket | undefined, tls: TLSSocket, socket: Socket) {
    this.#shim = shim
    this.inbox = new Inbox(tls)
    this.outlet = new Outlet(tls, socket)
  }

  /** Waits for the client's hello, for a session that `drop` will end. ConnectionOver for anything else. */
  static async accept(socket: Socket, context: SecureContext): Promise<TlsTurn> {
    const shim = new DetachableSocket(socket)
    // The session's own errors end in its `close`.
    shim.on('error', () => undefined)
    return TlsTurn.#greet(socket, context, shim)
  }

  /** The same for a session that lasts as long as the socket; the bytes of disks go this way, without a stream in between. */
  static async acceptForGood(socket: Socket, context: SecureContext): Promise<TlsTurn> {
    return TlsTurn.#greet(socket, context, undefined)
  }

  static async #greet(socket: Socket, context: SecureContext, shim: DetachableSocket | undefined): Promise<TlsTurn> {
    const tls = new TLSSocket(shim ?? socket, { isServer: true, secureContext: context, requestCert: false })
    const failed = new Promise<never>((_resolve, reject) => {
      const fail = (error?: unknown): void =>
        reject(new ConnectionOver(`TLS failed${error instanceof Error ? `: ${error.message}` : ''}`, { cause: error }))
      tls.on('error', fail).on('_tlsError', fail).on('close', fail)
      socket.on('close', fail)
    })
    failed.catch(() => undefined) // Whoever reads from the session sees its end; here only the handshake waits.
    await Promise.race([once(tls, 'secure'), failed])
    return new TlsTurn(shim, tls, socket)
  }

  /** Forgets the session without a word on the wire. */
  drop(): void {
    this.inbox.release()
    this.#shim?.detach()
  }
}

export const inClear = (socket: Socket): Speech => ({ inbox: new Inbox(socket), outlet: new Outlet(socket, socket) })
