import type { TLSSocket } from 'node:tls'
import type { buildConnector } from 'undici'
import { AgentError, nodeTls } from '../../core/index.ts'

/** A pin (SHA-1 or SHA-256, lower-case hex) decides alone; else the system's authorities and `ca` (PEM). Never a blind accept. */
export type ServerTrust = { readonly pin?: string | undefined; readonly ca?: string | undefined }

/** Longest wait for TCP and TLS together, ms. */
const CONNECT_MS = 15_000

/** A connector for undici that hands a socket over only when the certificate is the trusted one: no byte of a request leaves before. Loads undici. */
export async function trustingConnector({ pin, ca }: ServerTrust, host: string): Promise<buildConnector.connector> {
  const { buildConnector: connectorOf } = await import('undici')
  const connect = connectorOf({
    timeout: CONNECT_MS,
    maxCachedSessions: 0,
    allowH2: false,
    // The check is the one below, which also holds for a pinned certificate that nobody signed.
    rejectUnauthorized: false,
    ...(ca === undefined ? {} : { ca: [...nodeTls().getCACertificates('default'), ca] }),
  })
  return (options, callback) => {
    connect(options, (...[error, socket]) => {
      if (error !== null) {
        callback(error, null)
        return
      }
      const refusal = socket instanceof nodeTls().TLSSocket ? refusalOf(socket, pin, host) : undefined
      if (refusal !== undefined) {
        socket.destroy()
        callback(refusal, null)
        return
      }
      socket.setNoDelay(true)
      callback(null, socket)
    })
  }
}

function refusalOf(socket: TLSSocket, pin: string | undefined, host: string): AgentError | undefined {
  const shown = socket.getPeerX509Certificate()
  const sha256 = shown?.fingerprint256 ?? 'none'
  if (pin === undefined) {
    if (socket.authorized) return undefined
    const why = socket.authorizationError
    return new AgentError(
      'AUTH',
      `The certificate of ${host} is not trusted (${why instanceof Error ? why.message : String(why)}); it shows ${sha256}.`,
      {
        subject: host,
        next: 'Name the file of its authority as caFile, or, if the certificate is the server’s, pin this thumbprint, in rest of the repository.',
      },
    )
  }
  const fingerprint = (pin.length === 40 ? shown?.fingerprint : shown?.fingerprint256)?.replaceAll(':', '').toLowerCase()
  if (fingerprint === pin) return undefined
  return new AgentError('AUTH', `The certificate of ${host} changed: pinned ${pin}, shown ${sha256}.`, {
    subject: host,
    next: 'Find out why: if the certificate was renewed on purpose, pin the new thumbprint; if not, somebody may be in between.',
  })
}
