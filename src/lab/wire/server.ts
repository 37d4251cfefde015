import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { Clock, Log } from '../../core/index.ts'
import { loadCertificate } from './certificate.ts'
import type { ChangeFeed } from './change-feed.ts'
import { Dispatcher } from './dispatcher.ts'
import type { Events } from './events.ts'
import { escape } from './encoder.ts'
import { toVimFault, VimFault } from './fault.ts'
import { readCall } from './request-reader.ts'
import { listen } from './listen.ts'
import type { Methods, ObjectStore } from './managed-object.ts'
import type { LabKind } from './service-content.ts'
import { type LabSession, peerOf, type Sessions } from './session.ts'
import type { Tasks } from './task.ts'
import { logTasks } from './task-events.ts'
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

const MAX_BODY = 32 * 1024 * 1024
const ENVELOPE =
  '<?xml version="1.0" encoding="UTF-8"?>\n<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" ' +
  'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>\n'
const ENVELOPE_END = '\n</soapenv:Body></soapenv:Envelope>\n'

/** Starts the TLS server and answers once it accepts connections. Disposal ends sessions, waits and connections. Errors: CONFIG, UNAVAILABLE. */
export async function serveSoap(options: SoapServerOptions): Promise<SoapServer> {
  const frozen = Object.freeze({ ...options })
  const name = frozen.kind === 'vcenter' ? 'vcenter.lab' : 'esxi.lab'
  const identity = await loadCertificate(frozen.directory, name, frozen.clock.now())
  const dispatcher = new Dispatcher(frozen, () => identity.thumbprints.sha1)
  const log = logTasks(frozen.tasks, frozen.events, (ref) => frozen.store.get(ref))
  const server = createServer({ key: identity.privateKey, cert: identity.certificate, keepAlive: true }, (request, response) => {
    handle(frozen, dispatcher, request, response).catch((error: unknown) => {
      frozen.log.error('a request to the lab failed', { url: request.url ?? '', error: String(error) })
      if (response.headersSent) response.destroy()
      else response.writeHead(500, { 'content-type': 'text/plain' }).end('Internal Server Error')
    })
  })
  // Leases and large uploads last longer than node's default of five minutes a request.
  server.requestTimeout = 0
  server.keepAliveTimeout = 60_000
  server.on('tlsClientError', (error) => frozen.log.debug('TLS handshake failed', { error: error.message }))
  const host = frozen.host ?? '127.0.0.1'
  const port = await listen(server, { host, port: frozen.port ?? 0 }, 'HTTPS')
  return {
    url: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    thumbprints: identity.thumbprints,
    certificate: identity.certificate,
    privateKey: identity.privateKey,
    [Symbol.asyncDispose]: async () => {
      log[Symbol.dispose]()
      frozen.sessions.expireAll()
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
}

async function handle(
  options: SoapServerOptions,
  dispatcher: Dispatcher,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? '/').split('?')[0] ?? '/'
  if (request.method === 'POST' && /^\/sdk(\/vimService)?\/?$/.test(path)) await soap(options, dispatcher, request, response)
  else if (path === '/sdk/vimServiceVersions.xml' && (request.method === 'GET' || request.method === 'HEAD')) {
    const body = serviceVersions(dispatcher.versions)
    response
      .writeHead(200, { 'content-type': 'text/xml', 'content-length': Buffer.byteLength(body) })
      .end(request.method === 'HEAD' ? undefined : body)
  } else if ((await options.routes?.(request, response)) !== true && !response.headersSent) {
    response.writeHead(404, { 'content-type': 'text/plain', 'content-length': 9 }).end('Not Found')
  }
}

async function soap(options: SoapServerOptions, dispatcher: Dispatcher, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const soapAction = request.headers.soapaction
  const version = dispatcher.version(Array.isArray(soapAction) ? soapAction[0] : soapAction)
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  try {
    const text = await readBody(request)
    const session = options.sessions.ofRequest(request)
    const setCookie = (header: string): void => void response.setHeader('Set-Cookie', header)
    const outcome = await dispatcher.run({
      request: readCall(text),
      version,
      session,
      peer: peerOf(request),
      signal: gone.signal,
      setCookie,
    })
    if ('cut' in outcome) request.socket.destroy()
    else reply(response, 200, outcome.xml)
  } catch (error) {
    if (gone.signal.aborted) return
    if (!(error instanceof VimFault))
      options.log.error('a method of the lab failed', { error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    const fault = toVimFault(error)
    const detail = dispatcher.encodeFault(fault, version)
    const code = fault.faultType === 'InvalidRequest' ? 'ClientFaultCode' : 'ServerFaultCode'
    reply(
      response,
      500,
      `<soapenv:Fault><faultcode>${code}</faultcode><faultstring>${escape(fault.message)}</faultstring><detail>${detail}</detail></soapenv:Fault>`,
    )
  }
}

function reply(response: ServerResponse, status: number, xml: string): void {
  const body = Buffer.from(ENVELOPE + xml + ENVELOPE_END, 'utf8')
  response
    .writeHead(status, { 'content-type': 'text/xml; charset=utf-8', 'cache-control': 'no-cache', 'content-length': body.length })
    .end(body)
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_BODY) throw new VimFault('InvalidRequest', {}, `The request is larger than ${MAX_BODY} bytes.`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Versions offered before login; a client takes the newest it knows. */
function serviceVersions([newest, ...prior]: readonly string[]): string {
  return (
    '<?xml version="1.0" encoding="UTF-8" ?>\n<namespaces version="1.0">\n<namespace>\n<name>urn:vim25</name>\n' +
    `<version>${newest}</version>\n<priorVersions>\n${prior.map((version) => `<version>${version}</version>`).join('\n')}\n</priorVersions>\n` +
    '</namespace>\n</namespaces>\n'
  )
}
