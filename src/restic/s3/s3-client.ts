import type { LookupFunction } from 'node:net'
import type { Agent, Dispatcher } from 'undici'
import { type Abortable, AgentError, type Clock, nodeTls, throwIfAborted } from '../../core/index.ts'
import { type BucketAddress, escapeKey, originOf } from './address.ts'
import type { S3Credentials } from './credentials.ts'
import { readRefusal, type Refusal, refusalError } from './s3-error.ts'
import { createSigner, type Signable, type SignedHeaders } from './signer.ts'
import { MOST_XML_BYTES } from './xml-answer.ts'

/** Longest silence of the server, before its answer's head and between two pieces of its body, ms. A large multipart upload is put together silently. */
const SILENCE_MS = 120_000
const CONNECT_MS = 10_000
/** No file of a repository is longer. */
const MOST_BYTES = 1024 * 1024 * 1024
const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

export type S3ClientOptions = BucketAddress & {
  readonly clock: Clock
  /** Asked for before each request; whoever gives them keeps them. */
  readonly credentials: () => Promise<S3Credentials>
  /** PEM of authorities that may have signed the server's certificate, beside those that Node trusts; read before the first request. */
  readonly ca?: (() => Promise<string>) | undefined
  /** Connections at once. */
  readonly connections?: number | undefined
  /** How names become addresses; the system's way when absent. */
  readonly resolve?: LookupFunction | undefined
}

export type S3Request = {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** Absent: the bucket itself. */
  readonly key?: string | undefined
  readonly query?: Readonly<Record<string, string>> | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly body?: Uint8Array | undefined
  /** SHA-256 of the body in hex; with a body always. */
  readonly bodySha256?: string | undefined
  /** For messages: `read data/ab/…`. */
  readonly what: string
}

export type S3Answer = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: Buffer }

/**
 * Requests to one bucket, signed, each on its own: nothing is tried again here. What the server refuses comes as an AgentError (`refusalError`), but
 * for the statuses a caller expects. Safe for calls at once.
 */
export class S3Client implements AsyncDisposable {
  readonly host: string
  readonly bucket: string
  readonly #options: S3ClientOptions
  readonly #at: ReturnType<typeof originOf>
  #agent: Promise<Agent> | undefined
  #signer: Promise<(request: Signable, now: Date) => Promise<SignedHeaders>> | undefined

  constructor(options: S3ClientOptions) {
    this.#options = options
    this.#at = originOf(options)
    this.host = this.#at.host
    this.bucket = options.bucket
  }

  /** The whole answer, whose body is bounded; `also` are statuses that are no errors to the caller. */
  async send(request: S3Request, options: Abortable & { readonly also?: readonly number[] | undefined } = {}): Promise<S3Answer> {
    const answer = await this.#exchange(request, () => undefined, options)
    if ((answer.status >= 200 && answer.status < 300) || options.also?.includes(answer.status) === true) return answer
    throw this.#error(request, readRefusal(answer.status, answer.headers, answer.body, this.host))
  }

  /**
   * The bytes of an object, straight into memory: `length` of them, or the whole object where that is undefined. Into `into` where it is large
   * enough. Undefined when there is no such object. INTEGRITY when it is shorter than the range.
   */
  async receive(
    request: S3Request & { readonly range?: { readonly offset: number; readonly length: number } | undefined },
    options: Abortable & { readonly into?: Buffer | undefined } = {},
  ): Promise<Buffer | undefined> {
    const { range } = request
    const headers =
      range === undefined ? request.headers : { ...request.headers, range: `bytes=${range.offset}-${range.offset + range.length - 1}` }
    const wanted = range === undefined ? 200 : 206
    let target: Buffer | undefined
    const answer = await this.#exchange(
      { ...request, headers },
      (status, answered) => {
        if (status !== wanted) return undefined
        const length = Number(answered['content-length'] ?? Number.NaN)
        if (!Number.isSafeInteger(length) || length < 0 || length > MOST_BYTES)
          throw this.#strange(`${request.what}: it does not say how long it is`)
        if (range !== undefined && length !== range.length) return undefined
        return (target =
          options.into !== undefined && options.into.length >= length ? options.into.subarray(0, length) : Buffer.allocUnsafeSlow(length))
      },
      options,
    )
    if (target !== undefined) return target
    const { status } = answer
    if (status === 416 || status === 206) {
      throw new AgentError(
        'INTEGRITY',
        `${request.key ?? ''} in ${this.host}/${this.bucket} ends before byte ${(range?.offset ?? 0) + (range?.length ?? 0)}.`,
        {
          subject: request.key,
        },
      )
    }
    if (status === 200) throw this.#strange(`${request.what}: it sends whole objects when a part is asked for`)
    const refusal = readRefusal(status, answer.headers, answer.body, this.host)
    if (status === 404 && refusal.code !== 'NoSuchBucket') return undefined
    throw this.#error(request, refusal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#agent?.catch(() => undefined))?.destroy() // whoever asked for it was told
  }

  async #connect(): Promise<Agent> {
    const { ca, resolve, connections = 8 } = this.#options
    const { Agent: HttpAgent } = await import('undici')
    return new HttpAgent({
      connect: {
        timeout: CONNECT_MS,
        ...(ca === undefined ? {} : { ca: [...nodeTls().getCACertificates('default'), await ca()] }),
        ...(resolve === undefined ? {} : { lookup: resolve }),
      },
      allowH2: false,
      connections,
      pipelining: 1,
      // Servers close idle connections without a word; a call sent at that moment would be lost in doubt.
      keepAliveTimeout: 4_000,
      keepAliveMaxTimeout: 10_000,
    })
  }

  #error(request: S3Request, refusal: Refusal): AgentError {
    const { bucket, region, clock } = this.#options
    return refusalError(refusal, { bucket, region, host: this.host, what: request.what, now: clock.now() })
  }

  #strange(what: string): AgentError {
    return new AgentError('CONFIG', `${this.host} cannot be used as S3 (${what}).`, {
      subject: this.host,
      next: 'Check the address of the repository: behind it must be an S3 server.',
    })
  }

  async #signed(request: S3Request): Promise<Dispatcher.DispatchOptions> {
    const { region, credentials, clock } = this.#options
    const { origin, protocol, hostname, port, host, before } = this.#at
    this.#signer ??= createSigner(region, credentials)
    const path = request.key === undefined ? before.replace(/(.)\/$/u, '$1') : `${before}${escapeKey(request.key)}`
    const query = { ...request.query }
    const headers = await (await this.#signer)(
      {
        method: request.method,
        protocol,
        hostname,
        port,
        path,
        query,
        headers: { host, ...request.headers },
        bodySha256: request.body === undefined ? EMPTY_SHA256 : (request.bodySha256 ?? ''),
      },
      clock.now(),
    )
    const search = new URLSearchParams(query).toString().replaceAll('+', '%20').replaceAll('*', '%2A').replaceAll('%7E', '~')
    return {
      origin,
      method: request.method,
      path: search === '' ? path : `${path}?${search}`,
      headers,
      body: request.body ?? null,
      headersTimeout: SILENCE_MS,
      bodyTimeout: SILENCE_MS,
    }
  }

  /** One request and its answer; the body goes where `place` says when the head has come, or, bounded, into the answer. */
  async #exchange(
    request: S3Request,
    place: (status: number, headers: Readonly<Record<string, string>>) => Buffer | undefined,
    { signal }: Abortable,
  ): Promise<S3Answer> {
    throwIfAborted({ signal })
    this.#agent ??= this.#connect()
    const agent = await this.#agent
    const dispatched = await this.#signed(request)
    throwIfAborted({ signal })
    return new Promise((resolve, reject) => {
      let status = 0
      let headers: Record<string, string> = {}
      let target: Buffer | undefined
      let length = 0
      const pieces: Buffer[] = []
      let controller: Dispatcher.DispatchController | undefined
      const onAbort = (): void => controller?.abort(new Error('canceled'))
      const settle = (run: () => void): void => {
        signal?.removeEventListener('abort', onAbort)
        run()
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      agent.dispatch(dispatched, {
        onRequestStart: (started) => {
          controller = started
          if (signal?.aborted === true) onAbort()
        },
        onResponseStart: (current, statusCode, answered) => {
          status = statusCode
          headers = Object.fromEntries(Object.entries(answered).map(([name, value]) => [name.toLowerCase(), String(value)]))
          try {
            target = place(statusCode, headers)
          } catch (error) {
            current.abort(error instanceof Error ? error : new Error(String(error)))
          }
        },
        onResponseData: (current, chunk) => {
          const most = target?.length ?? MOST_XML_BYTES
          if (length + chunk.length > most) {
            current.abort(
              new AgentError('UNAVAILABLE', `${this.host} sent more than it may (${request.what}).`, {
                subject: this.host,
                next: 'Check the address of the repository: behind it must be an S3 server.',
              }),
            )
            return
          }
          if (target === undefined) pieces.push(Buffer.from(chunk))
          else target.set(chunk, length)
          length += chunk.length
        },
        onResponseEnd: () =>
          settle(() => {
            if (target !== undefined && length !== target.length) reject(connectionError(new Error('the answer was cut'), this.host))
            else resolve({ status, headers, body: Buffer.concat(pieces) })
          }),
        onResponseError: (_controller, error) =>
          settle(() => {
            try {
              throwIfAborted({ signal })
              reject(connectionError(error, this.host))
            } catch (reason) {
              reject(reason instanceof Error ? reason : new Error(String(reason)))
            }
          }),
      })
    })
  }
}

/** Errors of a certificate: no other try helps. */
const UNTRUSTED = /^(?:CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_TLS_CERT)/u

function connectionError(error: unknown, host: string): AgentError {
  if (error instanceof AgentError) return error
  const cause: unknown = error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  if (UNTRUSTED.test(code)) {
    return new AgentError('AUTH', `The certificate of ${host} is not trusted (${code}).`, {
      subject: host,
      next: 'Write the file of its certificate authority as s3.caFile of the repository into vcb.yaml.',
      cause: error,
    })
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'EPROTO') {
    return new AgentError('CONFIG', `${host} does not speak TLS.`, {
      subject: host,
      next: 'Write http:// into the address of the repository if that is meant.',
      cause: error,
    })
  }
  const said = code !== '' ? code : error instanceof Error ? error.message : String(error)
  return new AgentError('UNAVAILABLE', `The connection to ${host} failed (${said}).`, { subject: host, cause: error })
}
