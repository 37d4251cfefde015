import { tmpdir } from 'node:os'
import {
  type Abortable,
  AgentError,
  fromErrno,
  MIB,
  openScratch,
  type Range,
  rangeEnd,
  type ScratchFile,
  throwIfAborted,
} from '../core/index.ts'
import type { ByteSource } from '../disk/index.ts'
import { SKELETON_END_BYTES, SKELETON_VERSION } from './archive-skeleton.ts'

const MOST_TRAILER_BYTES = MIB
/** 32 MB are kept of each TB; nobody has a disk of more than 62 TB, and a point has many. */
const MOST_SKELETON_BYTES = 64 * 1024 * MIB

/** Bytes of an archive that its skeleton does not hold. */
export type ReadData = (offset: number, into: Uint8Array, options?: Abortable) => Promise<void>

/** A skeleton, fetched once into a file without a name; disposed by who fetched it. */
export class FetchedSkeleton implements AsyncDisposable {
  readonly name: string
  readonly archiveBytes: number
  readonly #file: ScratchFile
  readonly #segments: readonly Range[]
  /** Where each segment's bytes are in the file. */
  readonly #places: readonly number[]

  private constructor(name: string, file: ScratchFile, archiveBytes: number, segments: readonly Range[]) {
    this.name = name
    this.#file = file
    this.archiveBytes = archiveBytes
    this.#segments = segments
    let place = 0
    this.#places = segments.map(({ length }) => {
      place += length
      return place - length
    })
  }

  /** Reads a skeleton to its end. `name` is what messages call its archive. INTEGRITY when it is cut or damaged; CONFIG when a newer vcb wrote it. */
  static async load(name: string, chunks: AsyncIterable<Uint8Array>, options?: Abortable): Promise<FetchedSkeleton> {
    const file = await openScratch(tmpdir()).catch((error: unknown) => {
      throw fromErrno(error, tmpdir()) ?? error
    })
    try {
      let size = 0
      for await (const chunk of chunks) {
        throwIfAborted(options)
        for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at, chunk.length - at, size + at)).bytesWritten
        size += chunk.length
        if (size > MOST_SKELETON_BYTES) throw damaged(name, 'is larger than any')
      }
      const { archiveBytes, segments } = await readTrailer(name, file, size)
      return new FetchedSkeleton(name, file, archiveBytes, segments)
    } catch (error) {
      await file.close()
      throw fromErrno(error, tmpdir()) ?? error
    }
  }

  /** The archive; what is not kept here is asked for by `data`, in as few calls as can be. */
  bytes(data: ReadData): ByteSource {
    return {
      name: this.name,
      size: this.archiveBytes,
      read: async (offset, into, options) => {
        if (offset < 0 || offset + into.length > this.archiveBytes) throw damaged(this.name, 'is shorter than what is in it')
        for (let at = offset; at < offset + into.length; ) {
          const index = this.#firstEndingAfter(at)
          const segment = this.#segments[index]
          const kept = segment !== undefined && segment.offset <= at
          const end = Math.min(offset + into.length, kept ? rangeEnd(segment) : (segment?.offset ?? this.archiveBytes))
          const part = into.subarray(at - offset, end - offset)
          if (kept) await this.#readKept((this.#places[index] ?? 0) + at - segment.offset, part)
          else await data(at, part, options)
          at = end
        }
      },
      [Symbol.asyncDispose]: async () => undefined,
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close()
  }

  async #readKept(place: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const { bytesRead } = await this.#file.read(into, done, into.length - done, place + done)
      if (bytesRead === 0) throw damaged(this.name, 'got lost')
      done += bytesRead
    }
  }

  #firstEndingAfter(offset: number): number {
    let low = 0
    let high = this.#segments.length
    while (low < high) {
      const middle = (low + high) >> 1
      const segment = this.#segments[middle]
      if (segment !== undefined && rangeEnd(segment) <= offset) low = middle + 1
      else high = middle
    }
    return low
  }
}

async function readTrailer(name: string, file: ScratchFile, size: number): Promise<{ archiveBytes: number; segments: readonly Range[] }> {
  const end = await readAt(name, file, size - SKELETON_END_BYTES, SKELETON_END_BYTES)
  if (!/^\d{16}\n$/u.test(end.toString('latin1'))) throw damaged(name, 'is cut off')
  const length = Number(end.toString('latin1', 0, SKELETON_END_BYTES - 1))
  if (length > MOST_TRAILER_BYTES) throw damaged(name, 'has an endless trailer')
  const kept = size - SKELETON_END_BYTES - length
  const json = parse(name, await readAt(name, file, kept, length))
  const { skeletonVersion, archiveBytes, segments } = json
  if (typeof skeletonVersion === 'number' && skeletonVersion > SKELETON_VERSION) {
    throw new AgentError('CONFIG', `The skeleton of ${name} has version ${skeletonVersion}; this vcb reads up to ${SKELETON_VERSION}.`, {
      subject: name,
      next: 'Use the newer vcb that wrote it.',
    })
  }
  if (skeletonVersion !== SKELETON_VERSION || !isCount(archiveBytes) || !Array.isArray(segments)) throw damaged(name, 'has no trailer')
  let decided = 0
  let held = 0
  const ranges = segments.map((each: unknown): Range => {
    const [offset, bytes]: unknown[] = Array.isArray(each) ? each : []
    if (!isCount(offset) || !isCount(bytes) || bytes === 0 || offset < decided) throw damaged(name, 'has pieces out of order')
    decided = offset + bytes
    held += bytes
    return { offset, length: bytes }
  })
  if (decided > archiveBytes || held !== kept) throw damaged(name, 'does not hold the pieces it names')
  return { archiveBytes, segments: ranges }
}

function parse(name: string, bytes: Buffer): Readonly<Record<string, unknown>> {
  try {
    const json: unknown = JSON.parse(bytes.toString('utf8'))
    if (typeof json === 'object' && json !== null) return json as Record<string, unknown>
  } catch (error) {
    throw damaged(name, 'has a trailer that is not JSON', error)
  }
  throw damaged(name, 'has no trailer')
}

async function readAt(name: string, file: ScratchFile, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  if (offset < 0 || (await file.read(bytes, 0, length, offset)).bytesRead !== length) throw damaged(name, 'is cut off')
  return bytes
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0

const damaged = (name: string, what: string, cause?: unknown): AgentError =>
  new AgentError('INTEGRITY', `The skeleton of ${name} ${what}.`, { subject: name, cause })
