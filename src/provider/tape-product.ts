import { resolve } from 'node:path'
import { type Abortable, AgentError, KIB, openInput, type PointId, type PointSummary, type RunId } from '../core/index.ts'
import { DirectoryTape } from './directory-tape.ts'
import type { PointRequest } from './provider.ts'
import { encodeSummary, fromJson, parseSummary } from './stored-summary.ts'
import type { OpenedStream } from './stream-pool.ts'
import type { ProductOutput, StreamProduct } from './stream-product.ts'
import type { TapeDevice, TapeFile } from './tape-device.ts'

/** Bytes of every block of a tape. */
export const TAPE_BLOCK = 256 * KIB
const NEWLINE = 0x0a

/** Where a point is: its facts are a line at the beginning of `file`, of `factsBytes`. */
type Place = {
  readonly file: number
  readonly archiveFile: number
  readonly factsBytes: number
  readonly archiveBytes: number
  readonly skeletonBytes: number
  readonly summary: PointSummary
}

/** Opens a directory that stands in for a tape. CONFIG for a drive: none was there to prove what would be promised of it. */
export function openTape(path: string): TapeProduct {
  const place = resolve(path)
  if (place.startsWith('/dev/') && !place.startsWith('/dev/shm/')) {
    throw new AgentError('CONFIG', `The tape drive ${place} cannot be read back by this vcb.`, {
      subject: place,
      next: `Write to it with tar:${place}, or name a directory that stands in for a tape.`,
    })
  }
  return new TapeProduct(`tape:${place}`, new DirectoryTape(place))
}

/**
 * Points on a tape, each two tape files: the archive, then its facts (a line of JSON) and its skeleton. The second makes the point. Nothing on it is
 * changed once it is written, so a point cannot be removed alone. Layout: docs/formats/tape.md.
 */
export class TapeProduct implements StreamProduct {
  readonly name = 'tape'
  readonly url: string
  readonly about = 'a directory that stands in for a tape'
  readonly oneAtATime = 'a tape is written by one at a time'
  readonly #device: TapeDevice

  constructor(url: string, device: TapeDevice) {
    this.url = url
    this.#device = device
  }

  async begin(id: PointId, request: PointRequest, skeleton: string): Promise<ProductOutput> {
    let current = await Blocks.begin(this.#device, request.run)
    return {
      write: (bytes) => current.write(bytes),
      finish: async ({ summary, archiveBytes, skeletonBytes }) => {
        await current.mark()
        const archiveFile = current.number
        current = await Blocks.begin(this.#device, request.run)
        const facts = { id, archiveFile, archiveBytes, skeletonBytes, ...encodeSummary(summary) }
        await current.write(Buffer.from(`${JSON.stringify(facts)}\n`))
        await using file = await openInput(skeleton)
        const chunk = new Uint8Array(TAPE_BLOCK)
        for (let at = 0; at < skeletonBytes; ) {
          const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, skeletonBytes - at), at)
          if (bytesRead === 0) throw new AgentError('INTEGRITY', `The skeleton of ${this.url} ${id} got lost.`, { subject: this.url })
          await current.write(chunk.subarray(0, bytesRead))
          at += bytesRead
        }
        await current.mark()
      },
      abort: () => current.abort(),
    }
  }

  async *list(options?: Abortable): AsyncGenerator<PointSummary> {
    for await (const { summary } of this.#places(options)) yield summary
  }

  async stream(id: PointId, what: 'archive' | 'skeleton', options?: Abortable): Promise<OpenedStream> {
    for await (const { file, archiveFile, factsBytes, archiveBytes, skeletonBytes, summary } of this.#places(options)) {
      if (summary.id !== id) continue
      return what === 'archive'
        ? part(await this.#device.read(archiveFile, options), 0, archiveBytes)
        : part(await this.#device.read(file, options), factsBytes, skeletonBytes)
    }
    throw new AgentError('NOT_FOUND', `The tape ${this.url} has no point ${id}.`, { subject: id })
  }

  async delete(id: PointId): Promise<void> {
    throw new AgentError('CONFIG', `The point ${id} cannot be removed from a tape.`, {
      subject: this.url,
      next: 'Erase the whole tape when nothing on it is needed any more.',
    })
  }

  async *check(): AsyncGenerator<string> {
    // Each point was checked; what belongs to none is a run that failed, and no problem.
  }

  async *#places(options?: Abortable): AsyncGenerator<Place> {
    const files = await this.#device.files(options)
    for (let file = 1; file < files; file++) {
      const place = await this.#place(file, options)
      if (place !== undefined) yield place
    }
  }

  /** The point that this tape file makes; undefined when it is an archive, or a stranger's. */
  async #place(file: number, options?: Abortable): Promise<Place | undefined> {
    await using opened = await this.#device.read(file, options)
    const { value } = await opened.chunks.next()
    const head = Buffer.from(value ?? [])
    const end = head.indexOf(NEWLINE)
    if (end < 0 || head[0] !== '{'.charCodeAt(0)) return undefined
    const facts = fromJson(head.toString('utf8', 0, end))
    const { id, archiveFile, archiveBytes, skeletonBytes } = (typeof facts === 'object' && facts !== null ? facts : {}) as Record<
      string,
      unknown
    >
    if (typeof id !== 'string' || !isCount(archiveFile) || archiveFile >= file || !isCount(archiveBytes) || !isCount(skeletonBytes))
      return undefined
    const summary = parseSummary(facts, id as PointId, this.url)
    return summary === undefined ? undefined : { file, archiveFile, factsBytes: end + 1, archiveBytes, skeletonBytes, summary }
  }
}

/** Bytes in blocks of one size; the last is filled up with zeros. */
class Blocks {
  readonly #file: TapeFile
  readonly #block = Buffer.alloc(TAPE_BLOCK)
  #filled = 0
  #marked = false

  get number(): number {
    return this.#file.number
  }

  private constructor(file: TapeFile) {
    this.#file = file
  }

  static async begin(device: TapeDevice, run: RunId): Promise<Blocks> {
    return new Blocks(await device.append(run))
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + TAPE_BLOCK - this.#filled)
      this.#block.set(piece, this.#filled)
      this.#filled += piece.length
      at += piece.length
      if (this.#filled < TAPE_BLOCK) continue
      await this.#file.write(this.#block)
      this.#filled = 0
    }
  }

  async mark(): Promise<void> {
    if (this.#filled > 0) await this.#file.write(this.#block.fill(0, this.#filled))
    await this.#file.mark()
    this.#marked = true
  }

  async abort(): Promise<void> {
    if (!this.#marked) await this.#file.abort()
  }
}

/** `length` bytes of a stream from `from` on; a shorter one just ends, which whoever reads it notices. */
function part(stream: OpenedStream, from: number, length: number): OpenedStream {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    let at = 0
    for await (const chunk of { [Symbol.asyncIterator]: () => stream.chunks }) {
      const piece = chunk.subarray(Math.max(0, from - at), Math.max(0, from + length - at))
      at += chunk.length
      if (piece.length > 0) yield piece
      if (at >= from + length) return
    }
  }
  return { chunks: chunks(), failure: stream.failure, [Symbol.asyncDispose]: () => stream[Symbol.asyncDispose]() }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0
