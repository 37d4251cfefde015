import type { IncomingMessage, RequestListener, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { AgentError, type Clock, type Log, toAgentError, unlessAborted } from '../core/index.ts'
import type { AgentControl, Caller } from './agent-control.ts'
import type { Decision } from './access.ts'
import type { AuditLog } from './audit.ts'
import type { EventFeed } from './event-feed.ts'
import { streamEvents } from './event-stream.ts'
import { renderMetrics } from './metrics.ts'
import { openApiDocument } from './openapi.ts'
import { carryOut } from './order.ts'
import type { ProcessWatch } from './process-facts.ts'
import { type Problem, PROBLEM_TYPE, problemOf, refusal, WrongCall } from './problem.ts'
import type { Route } from './route.ts'
import { ROUTES } from './routes.ts'

/** Bounds of what one caller may send, and all of them at once may ask. Bytes, ms, calls. */
export const BOUNDS = Object.freeze({
  body: 64 * 1024,
  url: 4 * 1024,
  calls: 64,
  streams: 32,
  /** Longest wait for an answer of the agent. */
  answerMs: 60_000,
})

const HEADERS: Readonly<Record<string, string>> = Object.freeze({
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
})

/** Who a request comes from. A caller let in by the socket's permissions is never refused. */
export type Gate = {
  readonly decide: (request: IncomingMessage, needed: Route['role'] | undefined, id: string) => Promise<Decision>
  readonly isAllowed: (request: IncomingMessage) => Promise<boolean>
}

export type ServerDeps = {
  readonly control: AgentControl
  readonly clock: Clock
  readonly log: Log
  readonly random: (size: number) => Uint8Array
  readonly version: string
  readonly audit: AuditLog
  readonly feed: EventFeed
  readonly watch: ProcessWatch
  /** Aborted when the API closes. */
  readonly signal: AbortSignal
  readonly answerMs?: number | undefined
  readonly beatMs?: number | undefined
}

declare module 'fastify' {
  interface FastifyContextConfig {
    readonly route?: Route
  }
  interface FastifyRequest {
    caller: Caller | undefined
  }
}

/** The routes over one HTTP server, which `make` makes and whoever calls this listens with and closes. */
export async function serveRoutes(deps: ServerDeps, gate: Gate, make: (listener: RequestListener) => Server): Promise<FastifyInstance> {
  // Here, so that no other command loads it.
  const { fastify } = await import('fastify')
  const app = fastify({
    serverFactory: (handler) => make(handler),
    logger: false,
    bodyLimit: BOUNDS.body,
    exposeHeadRoutes: false,
    requestIdHeader: false,
    genReqId: () => Buffer.from(deps.random(8)).toString('hex'),
    clientErrorHandler: (error, socket) => refuseBytes(error, socket),
    // Before any hook: a path that is no URL. Who sent it is not known yet, so nothing is told but that.
    frameworkErrors: (_error, request, reply) => {
      void sendProblem(reply, refusal(400, 'Wrong request', 'The path is no valid URL.', 'Correct the path.'), request.id, true)
    },
  })
  const served = new Served(app, deps, gate)
  served.register()
  await app.ready()
  return app
}

class Served {
  readonly #app: FastifyInstance
  readonly #deps: ServerDeps
  readonly #gate: Gate
  readonly #document: unknown
  #calls = 0
  #streams = 0

  constructor(app: FastifyInstance, deps: ServerDeps, gate: Gate) {
    this.#app = app
    this.#deps = deps
    this.#gate = gate
    this.#document = openApiDocument(ROUTES, deps.version)
  }

  register(): void {
    const app = this.#app
    app.decorateRequest('caller', undefined)
    // Nothing but JSON is read; anything else is refused unread.
    app.removeContentTypeParser('text/plain')
    app.addHook('onRequest', (request, reply) => this.#admit(request, reply))
    app.setNotFoundHandler((request, reply) =>
      sendProblem(reply, refusal(404, 'Not found', 'There is no such route.', 'See /openapi.json for what there is.'), request.id, true),
    )
    app.setErrorHandler((error, request, reply) => this.#failed(error, request, reply))
    for (const route of ROUTES) {
      app.route({
        method: route.method,
        url: route.path,
        config: { route },
        handler: (request, reply) => this.#answer(route, request, reply),
      })
    }
  }

  /** Before the body is read or a query parsed. */
  async #admit(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
    if ((request.raw.url ?? '').length > BOUNDS.url) {
      return sendProblem(reply, refusal(414, 'URL too long', `A URL is at most ${BOUNDS.url} characters.`, 'Send less.'), request.id, true)
    }
    const decision = await this.#gate.decide(request.raw, request.routeOptions.config.route?.role, request.id)
    if ('problem' in decision) {
      reply.headers(decision.headers)
      return sendProblem(reply, decision.problem, request.id, true)
    }
    request.caller = decision.caller
    // Its connection was lost meanwhile, which nobody tells any more: counted now, it would take a place for ever.
    if (reply.raw.closed || request.raw.socket.destroyed) return reply.hijack()
    if (this.#calls >= BOUNDS.calls) {
      reply.header('retry-after', '1')
      return sendProblem(
        reply,
        refusal(503, 'Too many calls', `${BOUNDS.calls} calls are being answered.`, 'Ask again in a second.'),
        request.id,
        true,
      )
    }
    this.#calls++
    reply.raw.once('close', () => this.#calls--)
    return undefined
  }

  async #answer(route: Route, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { control, clock, version, watch } = this.#deps
    reply.headers({ ...HEADERS, 'x-request-id': request.id })
    const { query, body } = route.parse({ query: request.query, body: request.body })
    const { caller } = request
    if (caller === undefined) throw new Error('a call without a caller came through')
    if (route.id === 'events') return this.#stream(request, reply)
    if (route.id === 'openapi') return reply.send(this.#document)
    if (route.id === 'metrics') {
      const facts = await this.#inTime(reply, () => control.facts())
      return reply.type(route.mediaType ?? 'text/plain').send(renderMetrics(facts, watch.facts(), clock.now(), version))
    }
    if (route.id === 'readyz') return reply.send(await this.#inTime(reply, () => readiness(control)))
    const { handle } = route
    if (handle === undefined) throw new Error(`nothing answers ${route.path}`)
    const answer = await this.#inTime(reply, (signal) => {
      const work = (): Promise<unknown> => handle(control, { query, body, caller, signal })
      return route.order ? carryOut(this.#deps, { id: request.id, action: route.id, target: body, caller }, work) : work()
    })
    return reply.code(route.answer?.status ?? 200).send(answer)
  }

  /** UNAVAILABLE when the agent does not answer in time. An order goes on, and its outcome is in the audit log. */
  async #inTime<T>(reply: FastifyReply, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, answerMs = BOUNDS.answerMs } = this.#deps
    const ended = new AbortController()
    const late = new AbortController()
    const gone = (): void => late.abort(new AgentError('CANCELED', 'The caller is gone.'))
    reply.raw.once('close', gone)
    clock
      .sleep(answerMs, { signal: ended.signal })
      .then(() =>
        late.abort(new AgentError('UNAVAILABLE', `The agent did not answer within ${answerMs / 1000} s.`, { next: 'Ask again later.' })),
      )
      .catch(() => undefined) // it was answered in time
    try {
      const signal = AbortSignal.any([late.signal, this.#deps.signal])
      return await unlessAborted(work(signal), signal)
    } finally {
      ended.abort()
      reply.raw.off('close', gone)
    }
  }

  async #stream(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    if (this.#streams >= BOUNDS.streams) {
      reply.header('retry-after', '30')
      return sendProblem(reply, refusal(503, 'Too many streams', `${BOUNDS.streams} streams of events are open.`, 'Close one.'), request.id)
    }
    const { feed, clock, log, signal, beatMs } = this.#deps
    const after = request.headers['last-event-id']
    reply.hijack()
    // A stream is counted apart: it must not take the place of a call for hours.
    this.#calls--
    reply.raw.once('close', () => this.#calls++)
    this.#streams++
    try {
      await streamEvents(reply.raw, {
        feed,
        clock,
        log,
        after: typeof after === 'string' ? after.slice(0, 64) : undefined,
        isAllowed: () => this.#gate.isAllowed(request.raw),
        headers: { ...HEADERS, 'x-request-id': request.id },
        signal,
        beatMs,
      })
    } finally {
      this.#streams--
    }
    return reply
  }

  #failed(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    if (error instanceof WrongCall) return sendProblem(reply, error.problem(), request.id)
    const refused = refusedByFastify(error)
    if (refused !== undefined) return sendProblem(reply, refused, request.id, true)
    const shown = toAgentError(error)
    if (shown.code === 'INTERNAL') {
      const stack = error instanceof Error ? error.stack : undefined
      this.#deps.log.error('a call of the control API met a defect', { id: request.id, error: shown.message, stack })
    }
    if (shown.retry !== 'never') reply.header('retry-after', '5')
    return sendProblem(reply, problemOf(shown, request.id), request.id)
  }
}

async function readiness(control: AgentControl): Promise<{ readonly status: 'ready' }> {
  const { draining } = await control.facts()
  if (!draining) return { status: 'ready' }
  throw new AgentError('UNAVAILABLE', 'The agent is drained: it begins nothing new.', {
    next: 'End that with POST /v1/drain {"on": false}.',
  })
}

/** `close`: what else the caller sends is not read. */
function sendProblem(reply: FastifyReply, problem: Problem, id: string, close = false): FastifyReply {
  reply.headers({ ...HEADERS, 'x-request-id': id, ...(close ? { connection: 'close' } : {}) })
  return reply.code(problem.status).type(PROBLEM_TYPE).serializer(JSON.stringify).send(problem)
}

/** What Fastify itself refuses of a body; in our words, since its own quote what was sent. */
function refusedByFastify(error: unknown): Problem | undefined {
  if (!(error instanceof Error) || !('statusCode' in error) || typeof error.statusCode !== 'number') return undefined
  const { statusCode } = error
  if (statusCode === 413) return refusal(413, 'Body too large', `A body is at most ${BOUNDS.body} bytes.`, 'Send less.')
  if (statusCode === 415) return refusal(415, 'Not JSON', 'A body is JSON and nothing else.', 'Send "Content-Type: application/json".')
  if (statusCode >= 400 && statusCode < 500)
    return refusal(statusCode, 'Wrong request', 'The body is no JSON document.', 'Correct the body.')
  return undefined
}

/** What is no HTTP, or came too slowly, or with too long a head: a short answer, and the end of the connection. */
function refuseBytes(error: Error & { readonly code?: string }, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  const status =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? '431 Request Header Fields Too Large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? '408 Request Timeout'
        : '400 Bad Request'
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`, () => socket.destroy())
}
