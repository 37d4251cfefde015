import type { IncomingMessage } from 'node:http'
import { type HttpFault, startHttpFaults } from './http-faults.ts'

/** What happens to one request of S3: as any of HTTP, or the server's own refusal. */
export type Fault =
  | Exclude<HttpFault, object | 'silence' | 'half the answer, well-formed'>
  | { readonly status: number; readonly code: string; readonly headers?: Readonly<Record<string, string>> }

export type FaultProxy = AsyncDisposable & {
  /** `http://127.0.0.1:PORT`: the server behind sees the requests as they were signed. */
  readonly endpoint: string
  /** Requests so far, and faults among them. */
  readonly counts: { readonly requests: number; readonly faults: number }
}

/** Stands before a server at `port`. `choose` says of each request what happens to it. */
export async function startFaultProxy(port: number, choose: (request: IncomingMessage) => Fault): Promise<FaultProxy> {
  const proxy = await startHttpFaults(port, (request) => faultOf(choose(request)))
  return {
    endpoint: proxy.origin,
    counts: {
      get requests() {
        return proxy.requests.length
      },
      get faults() {
        return proxy.faults
      },
    },
    [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
  }
}

function faultOf(fault: Fault): HttpFault {
  if (typeof fault === 'string') return fault
  return {
    status: fault.status,
    headers: { 'content-type': 'application/xml', ...fault.headers },
    body: `<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>as asked for</Message></Error>`,
  }
}
