import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import { type Clock, effect, fromErrno, type Log, toAgentError } from '../core/index.ts'
import { Access } from './access.ts'
import type { AgentControl } from './agent-control.ts'
import { AuditLog } from './audit.ts'
import { type Certificate, type CertificateFiles, readCertificate } from './certificate.ts'
import { EventFeed } from './event-feed.ts'
import { Failures } from './failures.ts'
import { userOf } from './peer-credentials.ts'
import { ProcessWatch } from './process-facts.ts'
import { type Gate, type ServerDeps, serveRoutes } from './server.ts'
import { listen, listenOnSocket, type SocketOptions } from './socket-listener.ts'
import { Tokens } from './tokens.ts'

/** TCP is never opened without TLS: there is no way to say so. */
export type TcpOptions = { readonly host: string; readonly port: number; readonly tls: CertificateFiles }

export type ApiOptions = {
  readonly control: AgentControl
  /** The state directory: tokens and audit log. */
  readonly directory: string
  readonly socket: SocketOptions | undefined
  readonly tcp: TcpOptions | undefined
  readonly clock: Clock
  readonly log: Log
  readonly random: (size: number) => Uint8Array
  readonly version: string
  readonly answerMs?: number | undefined
  readonly beatMs?: number | undefined
  readonly timeouts?: Timeouts | undefined
}

/** Of a connection, ms: for the head of a request, for the whole of it, and how often that is looked after. */
export type Timeouts = { readonly headMs: number; readonly requestMs: number; readonly lookMs: number }

const TIMEOUTS: Timeouts = { headMs: 10_000, requestMs: 30_000, lookMs: 2_000 }
const MOST_HEADER_BYTES = 8 * 1024
const MOST_HEADERS = 64
const MOST_CONNECTIONS = 256
const KEEP_ALIVE_MS = 30_000
/** Certificate files are looked at for a change so often. */
const CERTIFICATE_EVERY_MS = 60_000
/** A certificate that ends sooner is warned of. */
const RENEW_MS = 14 * 24 * 3_600_000

/** The control API, open until disposed. */
export interface Api extends AsyncDisposable {
  readonly socket: string | undefined
  readonly port: number | undefined
  /** Reads the certificate files again, when they changed; so does a timer. CONFIG, and the old ones stay in use. */
  reload(): Promise<void>
}

/** Opens the control API on a Unix socket, over TLS, or both. Errors: CONFIG, CONFLICT. */
export async function openApi(options: ApiOptions): Promise<Api> {
  const { control, directory, clock, log, random, version } = options
  await using stack = new AsyncDisposableStack()
  const audit = stack.use(new AuditLog({ directory, clock }))
  const watch = stack.use(new ProcessWatch(clock))
  const ended = new AbortController()
  const feed = stack.use(new EventFeed(control, { clock, log, epoch: Buffer.from(random(6)).toString('hex') }))
  const { answerMs, beatMs } = options
  const deps: ServerDeps = { control, clock, log, random, version, audit, feed, watch, signal: ended.signal, answerMs, beatMs }
  const http: ServerOptions = serverOptions(options.timeouts ?? TIMEOUTS)

  if (options.socket !== undefined) {
    const server = await serve(deps, byPermission, (listener) => createServer(http, listener), stack)
    stack.use(await listenOnSocket(server, options.socket))
  }
  const tls = options.tcp === undefined ? undefined : await openTcp(options.tcp, { ...options, deps, http, audit }, stack)
  stack.defer(() => ended.abort())
  const opened = stack.move()
  return {
    socket: options.socket?.path,
    port: tls?.port,
    reload: () => tls?.reload() ?? Promise.resolve(),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  }
}

/** Who could open the socket is the agent's own user, root, or of the group it was opened to. */
const byPermission: Gate = {
  decide: async (request) => ({ caller: { name: (await userOf(request)) ?? 'socket', role: 'admin', via: 'socket' } }),
  isAllowed: () => Promise.resolve(true),
}

type TcpDeps = Pick<ApiOptions, 'clock' | 'log' | 'directory' | 'random'> & { deps: ServerDeps; http: ServerOptions; audit: AuditLog }

async function openTcp(
  { host, port, tls }: TcpOptions,
  { clock, log, directory, random, deps, http, audit }: TcpDeps,
  stack: AsyncDisposableStack,
): Promise<{ readonly port: number; reload(): Promise<void> }> {
  let current = await readCertificate(tls)
  const warn = ({ validTo }: Certificate): void => {
    if (validTo.getTime() - clock.now().getTime() < RENEW_MS)
      log.warn('the certificate of the control API ends soon', { validTo: validTo.toISOString() })
  }
  warn(current)
  const tokens = new Tokens({ directory, clock, log, random })
  const access = new Access({ tokens, audit, log, failures: new Failures(clock) })
  const gate: Gate = { decide: (...call) => access.decide(...call), isAllowed: (request) => access.isAllowed(request) }
  const make = (listener: RequestListener): TlsServer =>
    createTlsServer(
      { ...http, cert: current.cert, key: current.key, minVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'], handshakeTimeout: 10_000 },
      listener,
    )
  const server = await serve(deps, gate, make, stack)
  server.on('tlsClientError', (error) => log.debug('a TLS handshake failed', { error: error.message }))
  try {
    await effect({ kind: 'process', what: 'listen', on: `${host}:${port}` }, () => listen(server, { host, port }))
  } catch (error) {
    throw fromErrno(error, `${host}:${port}`) ?? error
  }
  const reload = async (): Promise<void> => {
    const read = await readCertificate(tls)
    if (read.digest === current.digest) return
    current = read
    server.setSecureContext({ cert: read.cert, key: read.key, minVersion: 'TLSv1.2' })
    log.info('the certificate of the control API was renewed', { sha256: read.fingerprint, validTo: read.validTo.toISOString() })
    warn(read)
  }
  stack.use(
    clock.every(CERTIFICATE_EVERY_MS, reload, (error) =>
      log.error('the certificate stays the old one', { error: toAgentError(error).message }),
    ),
  )
  const address = server.address()
  return { port: typeof address === 'object' && address !== null ? address.port : port, reload }
}

/** The routes on a server that is closed, with every connection, when `stack` is. */
async function serve<S extends Server>(
  deps: ServerDeps,
  gate: Gate,
  make: (listener: RequestListener) => S,
  stack: AsyncDisposableStack,
): Promise<S> {
  let made: S | undefined
  const app = await serveRoutes(deps, gate, (listener) => (made = make(listener)))
  if (made === undefined) throw new Error('no server was made')
  const server = made
  server.maxConnections = MOST_CONNECTIONS
  server.maxHeadersCount = MOST_HEADERS
  server.maxRequestsPerSocket = 10_000
  server.on('error', (error) => deps.log.error('the control API met an error', { error: error.message }))
  stack.defer(async () => {
    if (server.listening) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    }
    await app.close()
  })
  return server
}

const serverOptions = ({ headMs, requestMs, lookMs }: Timeouts): ServerOptions => ({
  maxHeaderSize: MOST_HEADER_BYTES,
  headersTimeout: headMs,
  requestTimeout: requestMs,
  connectionsCheckingInterval: lookMs,
  keepAliveTimeout: KEEP_ALIVE_MS,
  insecureHTTPParser: false,
  requireHostHeader: true,
})
