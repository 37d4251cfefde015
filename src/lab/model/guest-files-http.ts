import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Model } from './model.ts'

/** One transfer that a call allowed. `from` the guest or `to` it; bytes. */
type Transfer = { readonly vm: string; readonly path: string; readonly direction: 'from' | 'to'; readonly size: number }

/** A transfer must begin within this, ms. */
const TICKET_MS = 10 * 60_000

/** `/guestFile?id=…&token=…`: the bytes of one file in a guest. Each address works once; no cookie is asked for. */
export class GuestFilesHttp {
  readonly #model: Model
  readonly #host: { readonly base: () => string }
  readonly #open = new Map<string, Transfer & { readonly token: string; readonly sinceMs: number }>()
  #next = 1

  constructor(model: Model, host: { readonly base: () => string }) {
    this.#model = model
    this.#host = host
  }

  /** The address a client is told; a host leaves itself out (`*`). */
  urlOf(transfer: Transfer): string {
    const now = this.#model.clock.monotonicMs()
    for (const [id, { sinceMs }] of this.#open) if (now - sinceMs > TICKET_MS) this.#open.delete(id)
    const id = String(this.#next++)
    const token = randomUUID()
    this.#open.set(id, { ...transfer, token, sinceMs: now })
    return `${this.#host.base()}/guestFile?id=${id}&token=${token}`
  }

  /** True when the path is one of these and the transfer is known here. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const url = new URL(request.url ?? '/', 'https://lab')
    if (url.pathname !== '/guestFile') return false
    const id = url.searchParams.get('id') ?? ''
    const found = this.#open.get(id)
    if (found === undefined || found.token !== url.searchParams.get('token')) return false
    this.#open.delete(id)
    const vm = this.#model.world.vm(found.vm)
    const system = vm?.power === 'poweredOn' ? (await this.#model.machine(vm)).system : undefined
    const method = found.direction === 'from' ? 'GET' : 'PUT'
    if (system === undefined || request.method !== method) {
      request.resume()
      response.writeHead(system === undefined ? 500 : 405).end()
      return true
    }
    if (found.direction === 'from') {
      const body = system.read(found.path)
      request.resume()
      if (body === undefined) response.writeHead(404).end()
      else response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': body.length }).end(body)
      return true
    }
    const pieces: Buffer[] = []
    let size = 0
    for await (const piece of request as AsyncIterable<Buffer>) {
      size += piece.length
      if (size > found.size) break
      pieces.push(piece)
    }
    const whole = size === found.size && system.write(found.path, Buffer.concat(pieces))
    response.writeHead(whole ? 200 : 500).end()
    return true
  }
}
