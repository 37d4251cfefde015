import { Readable } from 'node:stream'
import { type Abortable, AgentError, isAgentError } from '../core/index.ts'
import { connectionError } from './connection-error.ts'
import { parseDatastorePath } from './datastore.ts'
import { contentLength, drainText, header, type HttpAnswer, type HttpRequest } from './http-client.ts'
import type { Datacenter } from './inventory-tree.ts'
import { exactly, StallWatch } from './stall-watch.ts'
import type { Vsphere } from './vsphere.ts'

export type DatastoreFileStat = {
  /** Bytes. */
  readonly size: number
  /** Whether the server answers a range request with 206; proven by asking for one byte. */
  readonly ranges: boolean
}

/** The files of one datacenter's datastores over `/folder`. Paths are `[ds] dir/file`. */
export interface DatastoreFiles {
  /** NOT_FOUND; CONFLICT when the host holds the file locked; AUTH; UNAVAILABLE. */
  stat(path: string, options?: Abortable): Promise<DatastoreFileStat>
  /** Fills `into` from `offset`, or throws. Called many times, also concurrently. UNAVAILABLE on a short or unranged answer. */
  readRange(path: string, offset: number, into: Uint8Array, options?: Abortable): Promise<void>
  /** The whole file in chunks, back-pressured. UNAVAILABLE when fewer bytes come than announced. */
  download(path: string, options?: Abortable): AsyncIterable<Uint8Array>
  /** A small file (VMX, NVRAM, descriptor) whole; INTEGRITY when it is larger than `maxBytes`. */
  readSmall(path: string, maxBytes: number, options?: Abortable): Promise<Uint8Array>
  /**
   * Writes a file whole from exactly `size` bytes. `body` is asked anew when the connection broke or the session was over. The directory must
   * exist. CAPACITY, CONFLICT, NOT_FOUND, INTEGRITY (other size).
   */
  upload(path: string, body: () => AsyncIterable<Uint8Array>, size: number, options?: Abortable): Promise<void>
  /** HTTP DELETE. NOT_FOUND, CONFLICT. */
  remove(path: string, options?: Abortable): Promise<void>
}

/** Silence after which a read is given up, ms. */
const READ_MS = 60_000
/** Standstill after which an upload is given up, ms. */
const STALL_MS = 300_000
const READ_ATTEMPTS = 4

export const openDatastoreFiles = (vsphere: Vsphere, datacenter: Pick<Datacenter, 'path'>): DatastoreFiles =>
  new Folder(vsphere, datacenter.path)

/** `/folder/dir/file?dcPath=DC&dsName=DS`, every segment percent-encoded. USAGE when the path is none or climbs out. */
export function folderUrl(path: string, datacenterPath: string): string {
  const { datastore, path: file } = parseDatastorePath(path)
  const segments = file.split('/').filter((segment) => segment !== '')
  if (segments.some((segment) => segment === '.' || segment === '..')) {
    throw new AgentError('USAGE', `${JSON.stringify(path)} points outside its directory.`, { subject: path })
  }
  const encode = (text: string): string => encodeURIComponent(text.toWellFormed())
  return `/folder/${segments.map(encode).join('/')}?dcPath=${encode(datacenterPath.replace(/^\/+/, ''))}&dsName=${encode(datastore)}`
}

class Folder implements DatastoreFiles {
  readonly #vsphere: Vsphere
  readonly #datacenterPath: string

  constructor(vsphere: Vsphere, datacenterPath: string) {
    this.#vsphere = vsphere
    this.#datacenterPath = datacenterPath
  }

  async stat(path: string, options?: Abortable): Promise<DatastoreFileStat> {
    const answer = await this.#ask({ method: 'HEAD', path }, options)
    await drainText(answer)
    this.#mustBe(answer.status, [200], path, '')
    const size = contentLength(answer.headers)
    if (size === undefined)
      throw new AgentError('UNAVAILABLE', `${this.#vsphere.host} does not tell the size of ${path}.`, { subject: path, retry: 'never' })
    return { size, ranges: size > 0 && (await this.#takesRanges(path, options)) }
  }

  async readRange(path: string, offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    if (into.length === 0) return
    await this.#repeated(() => this.#readOnce(path, offset, into, options), options)
  }

  async *download(path: string, options?: Abortable): AsyncGenerator<Uint8Array> {
    const answer = await this.#ask({ method: 'GET', path }, options)
    if (answer.status !== 200) this.#mustBe(answer.status, [200], path, await drainText(answer))
    const announced = contentLength(answer.headers)
    let length = 0
    try {
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
        length += chunk.length
        yield chunk
      }
    } catch (error) {
      throw connectionError(error, this.#vsphere.host, options?.signal)
    }
    if (announced !== undefined && length !== announced) {
      throw new AgentError('UNAVAILABLE', `${path} ended after ${length} of ${announced} bytes.`, { subject: path })
    }
  }

  async readSmall(path: string, maxBytes: number, options?: Abortable): Promise<Uint8Array> {
    return this.#repeated(async () => {
      const parts: Uint8Array[] = []
      let length = 0
      for await (const chunk of this.download(path, options)) {
        length += chunk.length
        if (length > maxBytes) throw new AgentError('INTEGRITY', `${path} is larger than ${maxBytes} bytes.`, { subject: path })
        parts.push(chunk)
      }
      return Buffer.concat(parts, length)
    }, options)
  }

  async upload(path: string, body: () => AsyncIterable<Uint8Array>, size: number, options?: Abortable): Promise<void> {
    // So that a session that is over is noticed before a body is sent in vain.
    await this.#vsphere.call('CurrentTime', { type: 'ServiceInstance', value: 'ServiceInstance' }, {}, options)
    await this.#repeated(async () => {
      const { login } = this.#vsphere
      const first = await this.#put(path, body(), size, options)
      if (first.status !== 401) return this.#mustBe(first.status, [200, 201, 204], path, first.text)
      await this.#vsphere.http.renew(login)
      const again = await this.#put(path, body(), size, options)
      this.#mustBe(again.status, [200, 201, 204], path, again.text)
    }, options)
  }

  async #put(path: string, body: AsyncIterable<Uint8Array>, size: number, options?: Abortable) {
    using watch = new StallWatch(this.#vsphere.clock, `The upload of ${path}`, STALL_MS, options)
    const stream = Readable.from(exactly(body, size, path, watch), { objectMode: false })
    const answer = await this.#send(
      {
        method: 'PUT',
        path,
        body: stream,
        headers: { 'content-type': 'application/octet-stream', 'content-length': String(size) },
        timeoutMs: 0,
        changes: 'PUT file',
      },
      { signal: watch.signal },
    )
    return { status: answer.status, text: await drainText(answer) }
  }

  async remove(path: string, options?: Abortable): Promise<void> {
    const answer = await this.#ask({ method: 'DELETE', path, changes: 'DELETE file' }, options)
    this.#mustBe(answer.status, [200, 202, 204], path, await drainText(answer))
  }

  async #takesRanges(path: string, options?: Abortable): Promise<boolean> {
    const byte = new Uint8Array(1)
    const answer = await this.#fill(path, 'bytes=0-0', byte, options)
    if (answer.status === 206) return true
    if (answer.status === 200 || answer.status === 416) return false
    this.#mustBe(answer.status, [206], path, answer.text)
    return false
  }

  async #readOnce(path: string, offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const answer = await this.#fill(path, `bytes=${offset}-${offset + into.length - 1}`, into, options)
    if (answer.status === 200) {
      throw new AgentError('UNAVAILABLE', `${this.#vsphere.host} sends ${path} only as a whole, not in ranges.`, {
        subject: path,
        next: 'Use another transport for this disk.',
        retry: 'never',
      })
    }
    this.#mustBe(answer.status, [206], path, answer.text)
    const start = /^bytes (\d+)-/.exec(header(answer.headers, 'content-range') ?? '')?.[1]
    if (start === undefined || Number(start) !== offset || answer.length !== into.length) {
      throw new AgentError('UNAVAILABLE', `${path} gave ${answer.length} of ${into.length} bytes at ${offset}.`, { subject: path })
    }
  }

  async #fill(path: string, range: string, into: Uint8Array, options?: Abortable) {
    const { http } = this.#vsphere
    const once = () =>
      http.client.receiveInto(
        { method: 'GET', path: folderUrl(path, this.#datacenterPath), headers: { cookie: http.cookie(), range }, timeoutMs: READ_MS },
        into,
        options,
      )
    const { login } = this.#vsphere
    const answer = await once()
    if (answer.status !== 401) return answer
    await http.renew(login)
    return once()
  }

  /** A request without a body; a forgotten session is renewed once. */
  async #ask(request: Pick<HttpRequest, 'method' | 'path' | 'changes'>, options?: Abortable): Promise<HttpAnswer> {
    const full = { ...request, headers: {}, timeoutMs: READ_MS }
    const { login } = this.#vsphere
    const answer = await this.#send(full, options)
    if (answer.status !== 401) return answer
    await drainText(answer)
    await this.#vsphere.http.renew(login)
    return this.#send(full, options)
  }

  #send(request: HttpRequest, options?: Abortable): Promise<HttpAnswer> {
    const { http } = this.#vsphere
    return http.client.send(
      { ...request, path: folderUrl(request.path, this.#datacenterPath), headers: { ...request.headers, cookie: http.cookie() } },
      options,
    )
  }

  async #repeated<T>(run: () => Promise<T>, options?: Abortable): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await run()
      } catch (error) {
        if (!isAgentError(error, 'UNAVAILABLE') || error.retry !== 'now' || attempt >= READ_ATTEMPTS) throw error
        await this.#vsphere.clock.sleep(250 * 2 ** attempt, options)
      }
    }
  }

  /** Throws what an unexpected status means for a datastore file. */
  #mustBe(status: number, wanted: readonly number[], path: string, text: string): void {
    if (wanted.includes(status)) return
    const { host } = this.#vsphere
    const said = text
      .replaceAll(/<[^>]*>/g, ' ')
      .replaceAll(/\s+/g, ' ')
      .trim()
      .slice(0, 120)
    const tail = ` (${host}, HTTP ${status}${said === '' ? '' : `: ${said}`})`
    if (status === 404) throw new AgentError('NOT_FOUND', `${path} does not exist${tail}.`, { subject: path })
    if (status === 401 || status === 403) {
      throw new AgentError('AUTH', `Access to ${path} was refused${tail}.`, {
        subject: path,
        next: 'Grant Datastore.Browse and Datastore.FileManagement on the datastore, or release what holds the file.',
      })
    }
    if (status === 507 || /no space|disk full/i.test(said))
      throw new AgentError('CAPACITY', `The datastore of ${path} is full${tail}.`, { subject: path })
    if (status === 500 || status === 409 || status === 423) {
      throw new AgentError('CONFLICT', `${path} is not given out: a running VM or another proxy holds it locked${tail}.`, {
        subject: path,
        next: 'Use another transport for this disk, or try again when the lock is released.',
      })
    }
    const retry = status === 502 || status === 503 || status === 504 ? 'now' : 'never'
    throw new AgentError('UNAVAILABLE', `${path} cannot be transferred${tail}.`, { subject: path, retry })
  }
}
