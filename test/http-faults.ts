import { once } from 'node:events'
import { createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'

/** What happens to one request on its way to a server. */
export type HttpFault =
  | 'none'
  | 'cut the request'
  | 'cut after it was done'
  | 'cut the answer'
  | 'damage the request'
  | 'half the answer, well-formed'
  | 'silence'
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }

export type HttpFaults = AsyncDisposable & {
  readonly origin: string
  /** `METHOD PATH` of all requests so far. */
  readonly requests: readonly string[]
  readonly faults: number
}

/** Stands before a server on a port of this machine. `choose` says of each request what happens to it. */
export async function startHttpFaults(port: number, choose: (request: IncomingMessage) => HttpFault): Promise<HttpFaults> {
  const requests: string[] = []
  let faults = 0
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`)
    const fault = choose(request)
    if (fault !== 'none') faults++
    pass(port, request, response, fault).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: own } = server.address() as AddressInfo
  return {
    origin: `http://127.0.0.1:${own}`,
    requests,
    get faults() {
      return faults
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

async function pass(port: number, request: IncomingMessage, response: ServerResponse, fault: HttpFault): Promise<void> {
  const { method, url: path, headers } = request
  if (typeof fault === 'object') {
    request.resume()
    await once(request, 'end')
    response.writeHead(fault.status, fault.headers).end(method === 'HEAD' ? undefined : (fault.body ?? 'as asked for'))
    return
  }
  if (fault === 'silence') {
    request.resume()
    return
  }
  const upstream = httpRequest({ host: '127.0.0.1', port, method, path, headers, agent: false })
  if (fault === 'cut the request') {
    // The server sees the beginning and then the end of the connection; we the end alone.
    upstream.on('error', () => undefined)
    const [piece] = (await Promise.race([once(request, 'data'), once(request, 'end')])) as [Buffer?]
    if (piece !== undefined) upstream.write(piece.subarray(0, piece.length >> 1))
    upstream.destroy()
    response.destroy()
    return
  }
  const answered = once(upstream, 'response') as Promise<[IncomingMessage]>
  answered.catch(() => undefined) // told by the pipeline, or awaited below
  if (fault === 'damage the request') {
    const sent = Buffer.concat((await request.toArray()) as Buffer[])
    const at = sent.length >> 1
    if (sent.length > 0) sent[at] = (sent[at] ?? 0) ^ 1
    upstream.end(sent)
  } else {
    await pipeline(request, upstream)
  }
  const [answer] = await answered
  if (fault === 'cut after it was done') {
    await answer.toArray()
    response.destroy()
    return
  }
  if (fault === 'none' || fault === 'damage the request') {
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    await pipeline(answer, response)
    return
  }
  const body = Buffer.concat((await answer.toArray()) as Buffer[])
  const half = body.subarray(0, body.length >> 1)
  if (fault === 'half the answer, well-formed') {
    const length = method === 'HEAD' ? Number(answer.headers['content-length'] ?? 0) >> 1 : half.length
    response.writeHead(answer.statusCode ?? 502, { ...answer.headers, 'content-length': String(length) }).end(half)
    return
  }
  response.writeHead(answer.statusCode ?? 502, answer.headers)
  response.write(half, () => response.destroy())
  if (half.length === 0) response.destroy()
}
