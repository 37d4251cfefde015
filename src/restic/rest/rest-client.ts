import { Readable } from 'node:stream'
import type { Agent, Dispatcher } from 'undici'
import { type Abortable, AgentError, type Clock, KIB, MIB, type Secret, throwIfAborted } from '../../core/index.ts'
import { connectionError } from './connection-error.ts'
import { restError } from './rest-error.ts'
import { type ServerTrust, trustingConnector } from './server-trust.ts'

/** Longest silence of the server, also while it takes an upload, before the head of its answer and between two pieces of its body, ms. */
const SILENCE_MS = 90_000
/** Connections at once: restic's own number. */
const CONNECTIONS = 5
/** Pieces that an upload is given out in: each that goes shows that the line lives. */
const PIECE = 256 * KIB
const MOST_TEXT = 64 * KIB
const MOST_LIST = 256 * MIB
/** No file of a repository is longer. */
const MOST_BYTES = 1024 * MIB
export const VERSION_2 = 'application/vnd.x.restic.rest.v2'

export type RestLogin = { readonly user: string; readonly password: Secret }

export type RestClientOptions = {
  readonly clock: Clock
  /** `https://host:port/path/`, with a slash at its end, without login. */
  readonly base: string
  /** Asked for before the first request. */
  readonly login: () => Promise<RestLogin | undefined>
  readonly trust: () => Promise<ServerTrust>
  /** Longest silence, ms; 90 s when absent. For tests. */
  readonly silenceMs?: number | undefined
}

export type RestRequest = {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'DELETE'
  /** Below the base: `data/ab…`, `?create=true`. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly body?: Uint8Array | undefined
  /** For messages: `save data/ab…`. */
  readonly what: string
  /** Statuses that are answers to the caller; all others are thrown (`restError`). */
  readonly expected: readonly number[]
}

export type RestAnswer = { readonly status: number; readonly length: number | undefined; readonly type: string; readonly body: Buffer }

type Opened = { readonly agent: Agent; readonly authorization: Readonly<Record<string, string>> }
type Headers = Dispatcher.ResponseData['headers']

/** Requests to one repository of a REST server, nothing tried again here. UNAVAILABLE, AUTH, CONFIG, CAPACITY, CANCELED. Safe for calls at once. */
export class RestClient implements AsyncDisposable {
  readonly host: string
  readonly #options: RestClientOptions
  readonly #path: string
  readonly #origin: string
  #opened: Promise<Opened> | undefined

  constructor(options: RestClientOptions) {
    const url = new URL(options.base)
    this.#options = options
    this.host = url.host
    this.#origin = url.origin
    this.#path = url.pathname
  }

  /** The answer with its body, which goes into `into` when the status is `whole` and it is that long; else it is bounded by `most`. */
  async send(
    request: RestRequest,
    options: Abortable & {
      readonly into?: ((status: number, length: number | undefined) => Buffer | undefined) | undefined
      readonly list?: boolean
    } = {},
  ): Promise<RestAnswer> {
    throwIfAborted(options)
    const { agent, authorization } = await this.#open()
    const { method, body } = request
    const silence = this.#options.silenceMs ?? SILENCE_MS
    try {
      const answer = await agent.request({
        origin: this.#origin,
        path: `${this.#path}${request.path}`,
        method,
        headers: {
          accept: VERSION_2,
          ...authorization,
          ...(body === undefined ? {} : { 'content-type': 'application/octet-stream', 'content-length': String(body.length) }),
          ...request.headers,
        },
        body: body === undefined ? null : Readable.from(piecesOf(body), { objectMode: false }),
        headersTimeout: silence,
        bodyTimeout: silence,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      })
      return await this.#read(request, answer, options)
    } catch (error) {
      throwIfAborted(options)
      throw connectionError(error, this.host)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined) // whoever opened it was told
    await opened?.agent.destroy()
  }

  async #read(
    request: RestRequest,
    { statusCode: status, headers, body }: Dispatcher.ResponseData,
    {
      into,
      list,
    }: { readonly into?: ((status: number, length: number | undefined) => Buffer | undefined) | undefined; readonly list?: boolean },
  ): Promise<RestAnswer> {
    const expected = request.expected.includes(status)
    const length = lengthOf(headers)
    const target = expected ? into?.(status, length) : undefined
    const most = target?.length ?? (list === true && expected ? MOST_LIST : MOST_TEXT)
    const pieces: Buffer[] = []
    let got = 0
    for await (const piece of body) {
      // Asserted: undici's bodies without an encoding give buffers.
      const bytes = piece as Buffer
      if (got + bytes.length > most) {
        if (!expected) break
        body.destroy()
        throw this.#tooLong(request, most)
      }
      if (target === undefined) pieces.push(bytes)
      else target.set(bytes, got)
      got += bytes.length
    }
    if (!expected) {
      const text = Buffer.concat(pieces).toString('utf8')
      throw restError({
        host: this.host,
        what: request.what,
        status,
        retryAfter: one(headers, 'retry-after'),
        text,
        now: this.#options.clock.now().getTime(),
      })
    }
    if (target !== undefined && got < target.length) throw connectionError(new Error('the answer was cut'), this.host)
    return { status, length, type: one(headers, 'content-type') ?? '', body: target ?? Buffer.concat(pieces) }
  }

  #tooLong({ what }: RestRequest, most: number): AgentError {
    return new AgentError('CONFIG', `${this.host} answered ${what} with more than ${most} bytes.`, {
      subject: this.host,
      next: 'Check the address: behind it must be a REST server for restic.',
    })
  }

  #open(): Promise<Opened> {
    if (this.#opened === undefined) {
      this.#opened = this.#start()
      this.#opened.catch(() => {
        this.#opened = undefined
      })
    }
    return this.#opened
  }

  async #start(): Promise<Opened> {
    const { login: askLogin, trust, base } = this.#options
    const login = await askLogin()
    if (login !== undefined && !isPrivate(new URL(base))) {
      throw new AgentError('CONFIG', `${this.host} is not https: the password of the REST repository is never sent in clear.`, {
        subject: this.host,
        next: 'Give the server a certificate and write rest:https://… (a self-signed one can be pinned with thumbprint).',
      })
    }
    const { Agent: HttpAgent } = await import('undici')
    const agent = new HttpAgent({
      connect: await trustingConnector(await trust(), this.host),
      allowH2: false,
      connections: CONNECTIONS,
      pipelining: 1,
      // Servers close idle connections without a word; a call sent at that moment would be lost in doubt.
      keepAliveTimeout: 4_000,
      keepAliveMaxTimeout: 10_000,
    })
    const basic = login === undefined ? undefined : Buffer.from(`${login.user}:${login.password.reveal()}`).toString('base64')
    return { agent, authorization: basic === undefined ? {} : { authorization: `Basic ${basic}` } }
  }
}

/** The memory for a body of so many bytes: `into` where it is large enough. INTEGRITY for one that is longer than any file. */
export function roomFor(length: number, into: Buffer | undefined, what: string): Buffer {
  if (into !== undefined && into.length >= length) return into.subarray(0, length)
  if (length > MOST_BYTES)
    throw new AgentError('INTEGRITY', `${what} has ${length} bytes; no file of a repository has so many.`, { subject: what })
  return Buffer.allocUnsafeSlow(length)
}

async function* piecesOf(body: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < body.length; at += PIECE) yield body.subarray(at, at + PIECE)
}

/** Nobody can listen: TLS, or this machine. */
const isPrivate = ({ protocol, hostname }: URL): boolean =>
  protocol === 'https:' || hostname === 'localhost' || hostname === '[::1]' || /^127(?:[.]\d{1,3}){3}$/u.test(hostname)

const one = (headers: Headers, name: string): string | undefined => {
  const value = headers[name]
  return typeof value === 'string' ? value : value?.[0]
}

function lengthOf(headers: Headers): number | undefined {
  const text = one(headers, 'content-length')
  return text !== undefined && /^\d{1,15}$/u.test(text) ? Number(text) : undefined
}
