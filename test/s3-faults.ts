import { once } from 'node:events'
import { createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'

/**
 * What happens to one request: it goes through; it is answered by the server's own refusal; the connection is cut before it is all sent, after
 * it was carried out, or in the middle of its answer; or a byte of it is changed on its way.
 */
export type Fault =
  | 'none'
  | { readonly status: number; readonly code: string; readonly headers?: Readonly<Record<string, string>> }
  | 'cut the request'
  | 'cut after it was done'
  | 'cut the answer'
  | 'damage the request'

export type FaultProxy = AsyncDisposable & {
  /** `http://127.0.0.1:PORT`: the server behind sees the requests as they were signed. */
  readonly endpoint: string
  /** Requests so far, and faults among them. */
  readonly counts: { requests: number; faults: number }
}

/** Stands before a server at `port`. `choose` says of each request what happens to it. */
export async function startFaultProxy(port: number, choose: (request: IncomingMessage) => Fault): Promise<FaultProxy> {
  const counts = { requests: 0, faults: 0 }
  const server = createServer((request, response) => {
    counts.requests++
    const fault = choose(request)
    if (fault !== 'none') counts.faults++
    void pass(port, request, response, fault).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: own } = server.address() as AddressInfo
  return {
    endpoint: `http://127.0.0.1:${own}`,
    counts,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

async function pass(port: number, request: IncomingMessage, response: ServerResponse, fault: Fault): Promise<void> {
  if (typeof fault === 'object') {
    request.resume()
    response.writeHead(fault.status, { 'content-type': 'application/xml', ...fault.headers })
    response.end(
      request.method === 'HEAD'
        ? undefined
        : `<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>as asked for</Message></Error>`,
    )
    return
  }
  if (fault === 'cut the request') {
    request.once('data', () => request.socket.destroy())
    request.once('end', () => request.socket.destroy())
    return
  }
  const upstream = httpRequest({
    host: '127.0.0.1',
    port,
    method: request.method,
    path: request.url,
    headers: request.headers,
    agent: false,
  })
  const answered = once(upstream, 'response') as Promise<[IncomingMessage]>
  if (fault === 'damage the request') {
    const body = Buffer.concat(await request.toArray())
    const at = body.length >> 1
    if (body.length > 0) body[at] = (body[at] ?? 0) ^ 1
    upstream.end(body)
  } else {
    await pipeline(request, upstream)
  }
  const [answer] = await answered
  if (fault === 'cut after it was done') {
    answer.resume()
    await once(answer, 'end')
    response.destroy()
    return
  }
  response.writeHead(answer.statusCode ?? 502, answer.headers)
  if (fault === 'cut the answer') {
    const body = Buffer.concat(await answer.toArray())
    response.write(body.subarray(0, body.length >> 1), () => response.destroy())
    if (body.length < 2) response.destroy()
    return
  }
  await pipeline(answer, response)
}
