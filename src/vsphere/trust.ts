import { readFile } from 'node:fs/promises'
import { isIP, type Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { buildConnector } from 'undici'
import { type Abortable, AgentError, fromErrno, nodeTls, throwIfAborted } from '../core/index.ts'
import { connectionError } from './connection-error.ts'

/** A pin (SHA-1 or SHA-256, hex, colons optional) decides alone; else the CA file; else the system's CAs. Never a blind accept. */
export type VsphereTrust = { readonly thumbprint?: string | undefined; readonly caFile?: string | undefined }

/** A trust that was checked: the pin normalised, the CA file read. */
export type Trust = { readonly pin: string | undefined; readonly ca: string | undefined }

/** Longest wait for TCP and TLS together, ms. */
const CONNECT_MS = 15_000

/** CONFIG for a pin that is no thumbprint or a CA file that cannot be read. */
export async function resolveTrust(trust: VsphereTrust): Promise<Trust> {
  const pin = trust.thumbprint === undefined ? undefined : parsePin(trust.thumbprint)
  if (trust.caFile === undefined) return { pin, ca: undefined }
  try {
    return { pin, ca: await readFile(trust.caFile, 'utf8') }
  } catch (error) {
    throw new AgentError('CONFIG', `The CA file ${trust.caFile} cannot be read.`, { cause: fromErrno(error, trust.caFile) ?? error })
  }
}

/** Lower-case hex without colons: 40 digits (SHA-1) or 64 (SHA-256). CONFIG for anything else. */
export function parsePin(thumbprint: string): string {
  const hex = thumbprint
    .trim()
    .replace(/^sha(1|256)[:=]/i, '')
    .replaceAll(/[:\s]/g, '')
    .toLowerCase()
  if (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hex)) return hex
  throw new AgentError('CONFIG', `${JSON.stringify(thumbprint)} is not a certificate thumbprint (SHA-1 or SHA-256 in hex).`, {
    next: 'Print it with "vcb doctor" or: openssl x509 -fingerprint -sha256.',
  })
}

/** Hex pairs joined by colons, as VMware shows them. */
export const formatPin = (hex: string): string => (hex.toUpperCase().match(/../g) ?? []).join(':')

/**
 * A connector for undici that hands a socket over only when the certificate is the trusted one, so that no byte of a request leaves
 * before. `label` is `host:port`, for the message. Loads undici.
 */
export async function pinnedConnector(trust: Trust, label: string): Promise<buildConnector.connector> {
  const { buildConnector: connectorOf } = await import('undici')
  const connect = connectorOf({
    timeout: CONNECT_MS,
    maxCachedSessions: 0,
    allowH2: false,
    // The check is the one below, which also holds for a pinned self-signed certificate; no byte is sent before it.
    rejectUnauthorized: false,
    ...(trust.ca === undefined ? {} : { ca: trust.ca }),
  })
  return (options, callback) => {
    connect(options, (...[error, socket]) => {
      if (error !== null) {
        callback(error, null)
        return
      }
      try {
        checkSocket(socket, trust, label)
      } catch (refusal) {
        socket.destroy()
        callback(refusal instanceof Error ? refusal : new Error(String(refusal)), null)
        return
      }
      socket.setNoDelay(true)
      callback(null, socket)
    })
  }
}

function checkSocket(socket: Socket | TLSSocket, trust: Trust, label: string): void {
  if (!(socket instanceof nodeTls().TLSSocket)) throw new AgentError('CONFIG', `${label} was to be reached over TLS only.`)
  const shown = socket.getPeerX509Certificate()
  if (trust.pin === undefined) {
    if (socket.authorized) return
    const why = socket.authorizationError
    throw new AgentError('AUTH', `The certificate of ${label} is not trusted (${why instanceof Error ? why.message : String(why)}).`, {
      subject: label,
      next: 'Pin its thumbprint ("vcb doctor" shows it) or name the CA file that signed it.',
    })
  }
  const fingerprint = trust.pin.length === 40 ? shown?.fingerprint : shown?.fingerprint256
  if (fingerprint?.replaceAll(':', '').toLowerCase() === trust.pin) return
  throw new AgentError('AUTH', `The certificate of ${label} changed: pinned ${formatPin(trust.pin)}, shown ${fingerprint ?? 'none'}.`, {
    subject: label,
    next: 'Find out why: if the certificate was renewed on purpose, pin the new thumbprint; if not, somebody may be in between.',
  })
}

/** What a server shows in the handshake. */
export type ShownCertificate = {
  /** Hex pairs joined by colons. */
  readonly sha1: string
  readonly sha256: string
  readonly subject: string
  readonly issuer: string
  /** As the certificate writes it, e.g. `Nov 22 18:00:00 2027 GMT`. */
  readonly validTo: string
  /** Trusted by the system's CAs for this host name. */
  readonly trusted: boolean
}

/** The certificate a server shows, by a TLS handshake that sends nothing else. `url` as in `VsphereOptions`. UNAVAILABLE. */
export async function fetchThumbprint(url: string, options?: Abortable): Promise<ShownCertificate> {
  throwIfAborted(options)
  const { hostname, port, host } = parseEndpoint(url)
  return new Promise((resolve, reject) => {
    const socket = nodeTls().connect({
      host: hostname,
      port,
      ...(isIP(hostname) === 0 ? { servername: hostname } : {}),
      // Only looked at, nothing is sent: this is how a user learns the thumbprint to pin.
      rejectUnauthorized: false,
      timeout: CONNECT_MS,
      ...(options?.signal === undefined ? {} : { signal: options.signal }),
    })
    socket.once('secureConnect', () => {
      const shown = socket.getPeerX509Certificate()
      const trusted = socket.authorized
      socket.destroy()
      if (shown === undefined) {
        reject(new AgentError('UNAVAILABLE', `${host} shows no certificate.`))
        return
      }
      const { fingerprint: sha1, fingerprint256: sha256, subject, issuer, validTo } = shown
      resolve({ sha1, sha256, subject: oneLine(subject), issuer: oneLine(issuer), validTo, trusted })
    })
    socket.once('timeout', () => socket.destroy(new AgentError('UNAVAILABLE', `${host} did not answer within ${CONNECT_MS / 1000} s.`)))
    socket.once('error', (error) => reject(connectionError(error, host, options?.signal)))
  })
}

/**
 * The SHA-1 thumbprint of the certificate that a server shows and that is trusted as `trust` says, hex pairs joined by colons: for programs that know no
 * other kind. By a TLS handshake that sends nothing else; with a SHA-1 pin without one. Errors: AUTH, UNAVAILABLE.
 */
export async function trustedSha1({ hostname, port, origin, host }: Endpoint, trust: Trust): Promise<string> {
  if (trust.pin?.length === 40) return formatPin(trust.pin)
  const connect = await pinnedConnector(trust, host)
  const socket = await new Promise<Socket | TLSSocket>((resolve, reject) => {
    connect(
      { hostname, port: String(port), protocol: new URL(origin).protocol, servername: isIP(hostname) === 0 ? hostname : '' },
      (...[error, to]) => (error === null ? resolve(to) : reject(error)),
    )
  })
  const shown = socket instanceof nodeTls().TLSSocket ? socket.getPeerX509Certificate()?.fingerprint : undefined
  socket.destroy()
  if (shown === undefined) throw new AgentError('UNAVAILABLE', `${host} shows no certificate.`, { subject: host })
  return shown
}

const oneLine = (name: string): string => name.trim().replaceAll('\n', ', ')

export type Endpoint = {
  readonly origin: string
  readonly host: string
  readonly hostname: string
  readonly port: number
  readonly path: string
}

/** `https://host[:port][/path]` or `host[:port]`. CONFIG for anything else, plain http included. */
export function parseEndpoint(text: string): Endpoint {
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `https://${text}`)
  if (url === null || url.hostname === '') {
    throw new AgentError('CONFIG', `${JSON.stringify(text)} is not an address of a vCenter or ESXi host.`, {
      next: 'Write https://HOST or HOST:PORT.',
    })
  }
  if (url.protocol !== 'https:') {
    throw new AgentError('CONFIG', `${text} is not https: a password is never sent in clear.`, { next: 'Write https://HOST.' })
  }
  if (url.username !== '' || url.password !== '') {
    throw new AgentError('CONFIG', 'The address of the server must not hold a user or password.', {
      next: 'Give them by file or environment.',
    })
  }
  const port = url.port === '' ? 443 : Number(url.port)
  const path = url.pathname === '/' || url.pathname === '' ? '/sdk' : url.pathname.replace(/\/+$/, '')
  return {
    origin: `https://${url.hostname}:${port}`,
    host: `${url.hostname}:${port}`,
    hostname: url.hostname.replaceAll(/[[\]]/g, ''),
    port,
    path,
  }
}
