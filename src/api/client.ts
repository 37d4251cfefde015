import type { Agent, Dispatcher } from 'undici'
import type { z } from 'zod'
import {
  type Abortable,
  AgentError,
  effect,
  ERROR_CODES,
  type ErrorCode,
  fromErrno,
  isAgentError,
  type Secret,
  throwIfAborted,
} from '../core/index.ts'
import { pinnedConnector, resolveTrust, type VsphereTrust } from '../vsphere/index.ts'
import { readEventStream, type ReadEvent } from './read-events.ts'
import { problemView } from './problem.ts'

/** Where an agent is: its socket on this machine, or `https://HOST:PORT` with a token, its certificate pinned or signed by a known CA. */
export type AgentAddress = { readonly socket: string } | { readonly url: string; readonly token: Secret; readonly trust: VsphereTrust }

/** Longest answer that is read, bytes. */
const MOST_ANSWER_BYTES = 64 * 1024 * 1024
/** A little longer than the agent itself waits for an answer, ms. */
const ANSWER_MS = 75_000
/** Longest silence in a stream of events; there is a beat every 15 s. ms */
const SILENCE_MS = 50_000
const CONNECT_MS = 5_000

export type ClientCall<Schema extends z.ZodType> = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly query?: Readonly<Record<string, string | undefined>> | undefined
  readonly body?: unknown
  readonly answer: Schema
}

/** Asks a running agent. What it answers is checked: it may be another version. Errors: those the agent tells, AUTH (token, certificate), UNAVAILABLE. */
export class ApiClient implements AsyncDisposable {
  /** For messages. */
  readonly name: string
  /** It was named by address, not found on this machine. */
  readonly remote: boolean
  readonly #agent: Agent
  readonly #origin: string
  readonly #token: Secret | undefined

  private constructor(name: string, origin: string, agent: Agent, token: Secret | undefined) {
    this.name = name
    this.#origin = origin
    this.remote = token !== undefined
    this.#token = token
    this.#agent = agent
  }

  /** Does not connect yet. CONFIG. Loads undici. */
  static async open(address: AgentAddress): Promise<ApiClient> {
    const { Agent: HttpAgent, buildConnector } = await import('undici')
    const options = { allowH2: false, connections: 4, pipelining: 1 }
    if ('socket' in address) {
      const connect = buildConnector({ socketPath: address.socket, timeout: CONNECT_MS })
      return new ApiClient(`the agent on ${address.socket}`, 'http://agent', new HttpAgent({ connect, ...options }), undefined)
    }
    const url = URL.parse(address.url)
    if (url?.protocol !== 'https:' || url.username !== '' || url.pathname !== '/' || url.search !== '') {
      throw new AgentError('CONFIG', `${address.url} is not the address of an agent.`, {
        next: 'Write https://HOST:PORT; a token is never sent in clear.',
      })
    }
    const connect = await pinnedConnector(await resolveTrust(address.trust), url.host)
    return new ApiClient(`the agent on ${url.host}`, url.origin, new HttpAgent({ connect, ...options }), address.token)
  }

  async ask<Schema extends z.ZodType>(call: ClientCall<Schema>, options?: Abortable): Promise<z.output<Schema>> {
    const send = async (): Promise<string> => textOf(await this.#request(call, { ...options, timeoutMs: ANSWER_MS }), this.name)
    const answered =
      call.method === 'GET' ? await send() : await effect({ kind: 'call', what: `${call.method} ${call.path}`, on: this.#origin }, send)
    const parsed = call.answer.safeParse(parseJson(answered))
    if (parsed.success) return parsed.data
    throw new AgentError('UNAVAILABLE', `What ${this.name} answered is not understood.`, {
      next: 'Use the vcb of the version that the agent has.',
      retry: 'never',
      cause: parsed.error,
    })
  }

  /** Whether anything takes connections there. What it says is another matter. */
  async isThere(options?: Abortable): Promise<boolean> {
    try {
      await this.text('/healthz', options)
      return true
    } catch (error) {
      throwIfAborted(options)
      if (isAgentError(error, 'UNAVAILABLE') && error.cause !== undefined) return false
      throw error
    }
  }

  /** Text as it came: of `/metrics`. */
  async text(path: string, options?: Abortable): Promise<string> {
    return textOf(await this.#request({ method: 'GET', path }, { ...options, timeoutMs: ANSWER_MS }), this.name)
  }

  /** What happens from now on, or after the event `after`. Ends with UNAVAILABLE when the connection does. */
  async *events(after: string | undefined, options?: Abortable): AsyncIterable<ReadEvent> {
    const headers = after === undefined ? {} : { 'last-event-id': after }
    const answer = await this.#request({ method: 'GET', path: '/v1/events', headers }, { ...options, timeoutMs: SILENCE_MS })
    try {
      yield* readEventStream(answer.body)
    } catch (error) {
      throwIfAborted(options)
      throw this.#lost(error)
    }
    throwIfAborted(options)
    throw new AgentError('UNAVAILABLE', `The events of ${this.name} ended.`, { next: 'See whether the agent runs.' })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy()
  }

  /** An answer that is not refused. */
  async #request(
    { method, path, query, body, headers }: Omit<ClientCall<z.ZodType>, 'answer'> & { readonly headers?: Readonly<Record<string, string>> },
    { signal, timeoutMs }: Abortable & { readonly timeoutMs: number },
  ): Promise<Dispatcher.ResponseData> {
    throwIfAborted({ signal })
    const given = Object.entries(query ?? {}).filter((pair): pair is [string, string] => pair[1] !== undefined)
    let answer: Dispatcher.ResponseData
    try {
      answer = await this.#agent.request({
        origin: this.#origin,
        path: given.length === 0 ? path : `${path}?${new URLSearchParams(given).toString()}`,
        method,
        headers: {
          ...headers,
          ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token.reveal()}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        ...(signal === undefined ? {} : { signal }),
      })
    } catch (error) {
      throwIfAborted({ signal })
      throw this.#lost(error)
    }
    if (answer.statusCode < 300) return answer
    throw refusedBy(answer.statusCode, await textOf(answer, this.name), this.name)
  }

  #lost(error: unknown): AgentError {
    if (error instanceof AgentError) return error
    const known = fromErrno(error, this.name)
    return known?.code === 'CONFIG'
      ? known
      : new AgentError('UNAVAILABLE', `${capital(this.name)} does not answer.`, {
          cause: error,
          next: 'See whether it runs.',
        })
  }
}

function refusedBy(status: number, text: string, name: string): AgentError {
  const { data: problem } = problemView.safeParse(parseJson(text))
  if (problem === undefined)
    return new AgentError('UNAVAILABLE', `${capital(name)} answered with the status ${status}.`, { retry: 'never' })
  const code: ErrorCode = problem.code in ERROR_CODES ? problem.code : 'UNAVAILABLE'
  return new AgentError(code, problem.detail, { next: problem.next, subject: problem.subject })
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

async function textOf({ body }: Dispatcher.ResponseData, name: string): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  try {
    for await (const part of body as AsyncIterable<Buffer>) {
      size += part.length
      if (size > MOST_ANSWER_BYTES)
        throw new AgentError('UNAVAILABLE', `The answer of ${name} is too large.`, { next: 'Ask for less.', retry: 'never' })
      parts.push(part)
    }
  } catch (error) {
    if (error instanceof AgentError) throw error
    throw new AgentError('UNAVAILABLE', `The answer of ${name} broke off.`, { cause: error })
  }
  return Buffer.concat(parts).toString('utf8')
}
