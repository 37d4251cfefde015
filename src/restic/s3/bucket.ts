import { createHash, hash } from 'node:crypto'
import { type Abortable, AgentError, isAgentError } from '../../core/index.ts'
import type { S3Client } from './s3-client.ts'
import { readRefusal } from './s3-error.ts'
import { readXmlAnswer, type XmlElement } from './xml-answer.ts'

/** Keys of one page of a listing: the most that S3 gives. */
const PAGE = 1000

export type LockMode = 'GOVERNANCE' | 'COMPLIANCE'

/** How a version is kept; `until`: ms since 1970. */
export type Retention = { readonly mode: LockMode; readonly until: number }

export type StoredObject = {
  readonly size: number
  /** Until when nobody may remove this version, ms since 1970; undefined = not locked, or the server does not say. */
  readonly lockedUntil: number | undefined
  readonly lockMode: LockMode | undefined
}

export type ListedObject = { readonly key: string; readonly size: number }

export type PutOptions = Abortable & {
  /** SHA-256 of the data in hex: the server refuses what differs. */
  readonly sha256: string
  /** MD5 in base64, which AWS wants with a retention. */
  readonly md5?: string | undefined
  readonly storageClass?: string | undefined
  readonly retain?: { readonly mode: LockMode; readonly until: Date } | undefined
}

export type UnfinishedUpload = { readonly key: string; readonly id: string; readonly begunAt: number }

/** The calls of S3 that a repository needs, on one bucket (docs/formats/s3.md). Nothing is tried again here. */
export class Bucket implements AsyncDisposable {
  readonly #client: S3Client
  /** Uploads that failed and could not be given up either. */
  readonly #left = new Set<Pick<UnfinishedUpload, 'key' | 'id'>>()

  constructor(client: S3Client) {
    this.#client = client
  }

  get where(): string {
    return `${this.#client.host}/${this.#client.bucket}`
  }

  async get(
    key: string,
    options: Abortable & {
      readonly range?: { readonly offset: number; readonly length: number } | undefined
      readonly into?: Buffer | undefined
    } = {},
  ): Promise<Buffer | undefined> {
    return this.#client.receive({ method: 'GET', key, range: options.range, what: `read ${key}` }, options)
  }

  /** Whole and durable when it resolves; its length is what the server has then. */
  async put(key: string, data: Uint8Array, options: PutOptions): Promise<void> {
    const what = `write ${key}`
    const headers = { ...putHeaders(options), ...(options.md5 === undefined ? {} : { 'content-md5': options.md5 }) }
    await this.#client.send({ method: 'PUT', key, body: data, bodySha256: options.sha256, headers, what }, options)
    await this.#verifyLength(key, data.length, what, options)
  }

  /** As `put`, in parts of `partBytes`; what was sent is given up when it fails. The data are not copied. */
  async putInParts(key: string, data: Uint8Array, partBytes: number, options: PutOptions): Promise<void> {
    const what = `write ${key}`
    const begun = await this.#client.send({ method: 'POST', key, query: { uploads: '' }, headers: putHeaders(options), what }, options)
    const id = readXmlAnswer(begun.body, this.#client.host, 'InitiateMultipartUploadResult').string('UploadId') ?? ''
    if (id === '') throw this.#strange(what, 'it names no upload')
    try {
      const tags: string[] = []
      for (let at = 0; at < data.length; at += partBytes) {
        const part = data.subarray(at, Math.min(data.length, at + partBytes))
        const query = { partNumber: String(tags.length + 1), uploadId: id }
        const { headers } = await this.#client.send(
          { method: 'PUT', key, query, body: part, bodySha256: hash('sha256', part), what },
          options,
        )
        tags.push(headers['etag'] ?? '')
      }
      const list = tags.map(
        (tag, index) =>
          `<Part><PartNumber>${index + 1}</PartNumber><ETag>${tag.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</ETag></Part>`,
      )
      const body = Buffer.from(
        `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${list.join('')}</CompleteMultipartUpload>`,
      )
      const done = await this.#client.send(
        { method: 'POST', key, query: { uploadId: id }, body, bodySha256: hash('sha256', body), what },
        options,
      )
      // It may fail after its status was sent.
      const root = readXmlAnswer(done.body, this.#client.host)
      if (root.name !== 'CompleteMultipartUploadResult') {
        throw new AgentError('UNAVAILABLE', `${this.#client.host} could not ${what} (${root.string('Code') ?? root.name}).`, {
          subject: key,
        })
      }
    } catch (error) {
      await this.#giveUp({ key, id })
      throw error
    }
    await this.#verifyLength(key, data.length, what, options)
  }

  /** Undefined when there is no such object. */
  async head(key: string, options: Abortable = {}): Promise<StoredObject | undefined> {
    const what = `look at ${key}`
    const { status, headers } = await this.#client.send({ method: 'HEAD', key, what }, { ...options, also: [404] })
    if (status === 404) return undefined
    const size = Number(headers['content-length'] ?? Number.NaN)
    if (!Number.isSafeInteger(size) || size < 0) throw this.#strange(what, 'it does not say how long it is')
    const until = Date.parse(headers['x-amz-object-lock-retain-until-date'] ?? '')
    const lock = Number.isNaN(until) ? undefined : until
    return { size, lockedUntil: lock, lockMode: lock === undefined ? undefined : modeOf(headers['x-amz-object-lock-mode']) }
  }

  /** How an object's newest version is kept: undefined where it is not, `missing` where there is no such object. CONFIG when the key pair may not ask. */
  async retention(key: string, options: Abortable = {}): Promise<Retention | 'missing' | undefined> {
    const what = `read the retention of ${key}`
    const { status, body } = await this.#client.send({ method: 'GET', key, query: { retention: '' }, what }, { ...options, also: [404] })
    if (status === 404) return readRefusal(status, {}, body, this.#client.host).code === 'NoSuchKey' ? 'missing' : undefined
    const root = readXmlAnswer(body, this.#client.host, 'Retention')
    const [mode, until] = [modeOf(root.string('Mode')), Date.parse(root.string('RetainUntilDate') ?? '')]
    if (mode === undefined || Number.isNaN(until)) throw this.#strange(what, 'a retention without mode or moment')
    return { mode, until }
  }

  /** Has an object's newest version kept until then. What would be kept shorter by it is refused by the server: the right to do so all the same is not asked for. */
  async retain(key: string, { mode, until }: Retention, options: Abortable = {}): Promise<void> {
    const moment = new Date(until).toISOString()
    const body = Buffer.from(
      `<Retention xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Mode>${mode}</Mode><RetainUntilDate>${moment}</RetainUntilDate></Retention>`,
    )
    const headers = { 'content-type': 'application/xml', 'content-md5': createHash('md5').update(body).digest('base64') }
    const query = { retention: '' }
    const what = `lengthen the lock of ${key}`
    const request = { method: 'PUT', key, query, body, bodySha256: hash('sha256', body), headers, what } as const
    try {
      await this.#client.send(request, options)
    } catch (error) {
      // Of a server that reads it before it compares its digest: it was damaged on its way.
      if (!isAgentError(error, 'CONFIG') || !String(error.cause).includes('MalformedXML')) throw error
      throw new AgentError('UNAVAILABLE', `${this.#client.host} could not ${what} (MalformedXML).`, { subject: key, cause: error })
    }
  }

  /** One page of the objects whose keys begin with `prefix`; `next` is what to give as `token` for the page after it. */
  async page(
    prefix: string,
    token: string | undefined,
    options: Abortable = {},
  ): Promise<{ readonly objects: readonly ListedObject[]; readonly next: string | undefined }> {
    const what = `list ${prefix}`
    const query = {
      'list-type': '2',
      'max-keys': String(PAGE),
      'encoding-type': 'url',
      prefix,
      ...(token === undefined ? {} : { 'continuation-token': token }),
    }
    const { body } = await this.#client.send({ method: 'GET', query, what }, options)
    const root = readXmlAnswer(body, this.#client.host, 'ListBucketResult')
    const decode = keyDecoder(root)
    const objects = root.all('Contents').map((each) => {
      const [key, size] = [each.string('Key'), each.string('Size')]
      if (key === undefined || size === undefined || !/^\d{1,15}$/u.test(size)) throw this.#strange(what, 'an entry without key or size')
      return { key: decode(key), size: Number(size) }
    })
    if (root.string('IsTruncated') !== 'true') return { objects, next: undefined }
    const next = root.string('NextContinuationToken') ?? ''
    if (next === '' || next === token) throw this.#strange(what, 'its listing does not go on')
    return { objects, next }
  }

  /** With versions kept, a marker hides the object, whose version stays; a missing object is success. */
  async remove(key: string, options: Abortable = {}): Promise<void> {
    await this.#client.send({ method: 'DELETE', key, what: `remove ${key}` }, { ...options, also: [404] })
  }

  /** Uploads in parts that were begun below `prefix` and neither completed nor given up; the first thousand. */
  async unfinishedUploads(prefix: string, options: Abortable = {}): Promise<readonly UnfinishedUpload[]> {
    const what = 'list unfinished uploads'
    const query = { uploads: '', prefix, 'encoding-type': 'url', 'max-uploads': String(PAGE) }
    const { body } = await this.#client.send({ method: 'GET', query, what }, options)
    const root = readXmlAnswer(body, this.#client.host, 'ListMultipartUploadsResult')
    const decode = keyDecoder(root)
    return root.all('Upload').map((each) => {
      const [key, id, begunAt] = [each.string('Key'), each.string('UploadId'), Date.parse(each.string('Initiated') ?? '')]
      if (key === undefined || id === undefined || Number.isNaN(begunAt)) throw this.#strange(what, 'an upload without key, id or time')
      return { key: decode(key), id, begunAt }
    })
  }

  /** One that is gone is success. */
  async abortUpload({ key, id }: Pick<UnfinishedUpload, 'key' | 'id'>, options: Abortable = {}): Promise<void> {
    await this.#client.send(
      { method: 'DELETE', key, query: { uploadId: id }, what: `give up an upload of ${key}` },
      { ...options, also: [404] },
    )
  }

  /** Whether objects of the bucket can be locked. */
  async hasObjectLock(options: Abortable = {}): Promise<boolean> {
    const what = "read the bucket's Object Lock"
    const { status, body } = await this.#client.send(
      { method: 'GET', query: { 'object-lock': '' }, what },
      { ...options, also: [404, 400, 501, 405] },
    )
    if (status !== 200) return false
    return readXmlAnswer(body, this.#client.host).string('ObjectLockEnabled') === 'Enabled'
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using _client = this.#client
    if (this.#left.size > 0) await this.#giveUpLeft()
  }

  /** Why the upload failed is what its caller has to know: where this fails too it is done later, by `[Symbol.asyncDispose]` or recovery. */
  async #giveUp(upload: Pick<UnfinishedUpload, 'key' | 'id'>): Promise<void> {
    this.#left.add(upload)
    await this.#giveUpLeft()
  }

  async #giveUpLeft(): Promise<void> {
    for (const upload of this.#left) {
      try {
        await this.abortUpload(upload)
        this.#left.delete(upload)
      } catch (error) {
        if (!isAgentError(error)) throw error
        return
      }
    }
  }

  /** A server that stores something else than it was sent has been seen. */
  async #verifyLength(key: string, length: number, what: string, options: Abortable): Promise<void> {
    const stored = await this.head(key, options)
    if (stored?.size === length) return
    const has = stored === undefined ? 'nothing' : `${stored.size} bytes`
    throw new AgentError('UNAVAILABLE', `${this.#client.host} took ${length} bytes to ${what}, and has ${has}.`, { subject: key })
  }

  #strange(what: string, why: string): AgentError {
    return new AgentError('UNAVAILABLE', `${this.#client.host} gave an answer that is not S3's (${what}: ${why}).`, {
      subject: this.where,
      next: 'Check the address of the repository: behind it must be an S3 server, and no web page or proxy.',
    })
  }
}

const modeOf = (text: string | undefined): LockMode | undefined => (text === 'GOVERNANCE' || text === 'COMPLIANCE' ? text : undefined)

function putHeaders({ storageClass, retain }: PutOptions): Record<string, string> {
  return {
    'content-type': 'application/octet-stream',
    ...(storageClass === undefined ? {} : { 'x-amz-storage-class': storageClass }),
    ...(retain === undefined
      ? {}
      : { 'x-amz-object-lock-mode': retain.mode, 'x-amz-object-lock-retain-until-date': retain.until.toISOString() }),
  }
}

/** Servers that know `encoding-type` say so, and then names are percent-encoded. */
function keyDecoder(root: XmlElement): (key: string) => string {
  if (root.string('EncodingType') !== 'url') return (key) => key
  return (key) => {
    try {
      return decodeURIComponent(key.replaceAll('+', ' '))
    } catch {
      // Foreign: no name of ours holds a percent sign.
      return key
    }
  }
}
