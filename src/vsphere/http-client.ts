import type { Readable } from 'node:stream'
import type { Agent, Dispatcher } from 'undici'
import { type Abortable, AgentError, effect } from '../core/index.ts'
import { connectionError } from './connection-error.ts'
import { pinnedConnector, type Trust } from './trust.ts'

export type HttpRequest = {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE'
  /** Path and query, percent-encoded. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | Readable | undefined
  /** Longest silence before the answer's head and between two pieces of its body, ms. 0 = none. */
  readonly timeoutMs: number
  /** What the request changes on the server; absent for reading, and for SOAP, whose calls say so themselves. */
  readonly changes?: string | undefined
}

export type HttpAnswer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** Must be read to its end or destroyed. */
  readonly body: Readable
}

export type FilledAnswer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** Bytes the body had; those of a 206 went into the buffer. */
  readonly length: number
  /** Beginning of the body of any other status. */
  readonly text: string
}

/** HTTP/1.1 over TLS to one server whose certificate is checked before a request leaves. */
export class HttpClient implements AsyncDisposable {
  readonly host: string
  readonly #origin: string
  readonly #trust: Trust
  readonly #connections: number
  /** From the first request on: a command without one does not load undici. */
  #agent: Promise<Agent> | undefined

  constructor(origin: string, trust: Trust, connections = 8) {
    this.#origin = origin
    this.host = new URL(origin).host
    this.#trust = trust
    this.#connections = connections
  }

  /** One request, answered as a stream. UNAVAILABLE, AUTH (certificate), CANCELED. */
  send(request: HttpRequest, options?: Abortable): Promise<HttpAnswer> {
    if (request.changes === undefined) return this.#request(request, options)
    const on = `${this.host}${request.path}`
    return effect({ kind: 'upload', what: request.changes, on }, () => this.#request(request, options))
  }

  async #request(request: HttpRequest, options?: Abortable): Promise<HttpAnswer> {
    try {
      const agent = await this.#opened()
      const { statusCode, headers, body } = await agent.request({
        ...this.#dispatch(request),
        ...(options?.signal === undefined ? {} : { signal: options.signal }),
      })
      return { status: statusCode, headers, body }
    } catch (error) {
      throw connectionError(error, this.host, options?.signal)
    }
  }

  /** A GET whose 206 body goes straight into `into`: no stream, no second copy. INTEGRITY when more bytes come than fit. */
  async receiveInto(request: HttpRequest, into: Uint8Array, options?: Abortable): Promise<FilledAnswer> {
    const agent = await this.#opened()
    return new Promise((resolve, reject) => {
      let status = 0
      let answered: HttpAnswer['headers'] = {}
      let length = 0
      let text = ''
      let controller: Dispatcher.DispatchController | undefined
      const signal = options?.signal
      const onAbort = (): void => {
        controller?.abort(connectionError(signal?.reason, this.host, signal))
      }
      const settle = (run: () => void): void => {
        signal?.removeEventListener('abort', onAbort)
        run()
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      agent.dispatch(this.#dispatch(request), {
        onRequestStart: (started) => {
          controller = started
          if (signal?.aborted === true) onAbort()
        },
        onResponseStart: (_controller, statusCode, headers) => {
          status = statusCode
          answered = headers
        },
        onResponseData: (current, chunk) => {
          if (status !== 206) {
            if (text.length < 2000) text += chunk.toString('latin1', 0, 2000)
            // A server without ranges sends the whole file: do not read it to its end.
            if ((length += chunk.length) > 64 * 1024 && status === 200) current.abort(new UnrangedAnswer())
            return
          }
          if (length + chunk.length > into.length) {
            current.abort(new AgentError('INTEGRITY', `${this.host} sent more bytes than were asked for.`))
            return
          }
          into.set(chunk, length)
          length += chunk.length
        },
        onResponseEnd: () => settle(() => resolve({ status, headers: answered, length, text })),
        onResponseError: (_controller, error) =>
          settle(() => {
            if (error instanceof UnrangedAnswer) resolve({ status, headers: answered, length, text })
            else reject(connectionError(error, this.host, signal))
          }),
      })
    })
  }

  #opened(): Promise<Agent> {
    this.#agent ??= this.#open()
    return this.#agent
  }

  async #open(): Promise<Agent> {
    const { Agent: HttpAgent } = await import('undici')
    return new HttpAgent({
      connect: await pinnedConnector(this.#trust, this.host),
      allowH2: false,
      connections: this.#connections,
      pipelining: 1,
      // Servers close idle connections without a word; a call sent at that moment would be lost in doubt.
      keepAliveTimeout: 4_000,
      keepAliveMaxTimeout: 10_000,
    })
  }

  #dispatch(request: HttpRequest): Dispatcher.DispatchOptions {
    return {
      origin: this.#origin,
      method: request.method,
      path: request.path,
      headers: request.headers,
      body: request.body ?? null,
      headersTimeout: request.timeoutMs,
      bodyTimeout: request.timeoutMs,
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const agent = await this.#agent?.catch(() => undefined) // whoever asked for it was told
    await agent?.destroy()
  }
}

class UnrangedAnswer extends Error {}

/** Reads at most `maxChars` of an answer as text and drops the rest; for messages about unexpected answers. */
export async function drainText(answer: HttpAnswer, maxChars = 2000): Promise<string> {
  let text = ''
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      text += chunk.toString('latin1')
      if (text.length >= maxChars) break
    }
  } catch (error) {
    return `${text} (${error instanceof Error ? error.message : String(error)})`.slice(0, maxChars)
  }
  return text.slice(0, maxChars)
}

/** One value of a header, undefined when absent; the first when repeated. */
export function header(headers: HttpAnswer['headers'], name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' ? value : value?.[0]
}

/** Content-Length of an answer in bytes; undefined when absent or not a number. */
export function contentLength(headers: HttpAnswer['headers']): number | undefined {
  const text = header(headers, 'content-length')
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined
}
