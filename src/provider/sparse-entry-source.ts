import { createHash, hash } from 'node:crypto'
import { type Abortable, AgentError, type BlockSource, type Extent, type Range, rangeEnd, totalLength } from '../core/index.ts'
import { DIGEST_BYTES, DIGEST_STEP } from './digest-spool.ts'
import { MAX_SPARSE_MAP_BYTES, parseSparseMap } from './sparse-map.ts'
import type { TarArchive } from './tar-archive.ts'
import { isSound, VerifiedBlocks } from './verified-blocks.ts'

/**
 * A disk's sparse entry inside an archive, random access, every MiB verified as it is read. Holes are `hole` extents: `zero` in a full,
 * `absent` (ask the parent) in an incremental. Belongs to the archive, which must stay open. INTEGRITY when map or digests are damaged.
 */
export async function openSparseEntry(
  archive: TarArchive,
  names: { readonly data: string; readonly digests: string },
  hole: 'zero' | 'absent',
  options?: Abortable,
): Promise<BlockSource> {
  const { bytes, entry, sha256 } = archive.part(names.data)
  if (entry.realSize === undefined) throw damaged(archive, `keeps ${names.data} in another form than a sparse entry`)
  const head = Buffer.alloc(Math.min(entry.size, MAX_SPARSE_MAP_BYTES))
  await bytes.read(entry.offset, head, options)
  const { segments, mapBytes } = parseSparseMap(head, entry.realSize, entry.size, names.data)
  if (hash('sha256', head.subarray(0, mapBytes)) !== sha256) throw damaged(archive, `has a damaged map of ${names.data}`)
  const digests = await checkDigests(archive, names.digests, totalLength(segments), options)
  const dataStart = entry.offset + mapBytes
  const dataBytes = entry.size - mapBytes
  const blocks = new VerifiedBlocks(async (index, inner) => {
    const start = index * DIGEST_STEP
    const block = Buffer.allocUnsafeSlow(Math.min(DIGEST_STEP, dataBytes - start))
    const digest = Buffer.alloc(DIGEST_BYTES)
    await Promise.all([bytes.read(dataStart + start, block, inner), bytes.read(digests + index * DIGEST_BYTES, digest, inner)])
    if (!isSound(block, digest)) throw damaged(archive, `has a damaged MiB ${index} in ${names.data}`)
    return block
  })
  return new SparseEntrySource(entry.realSize, segments, hole, blocks)
}

/** The digest list is itself verified once; where it begins. */
async function checkDigests(archive: TarArchive, name: string, dataBytes: number, options?: Abortable): Promise<number> {
  const { bytes, entry, sha256 } = archive.part(name)
  if (entry.size !== Math.ceil(dataBytes / DIGEST_STEP) * DIGEST_BYTES) throw damaged(archive, `has another number of digests in ${name}`)
  const running = createHash('sha256')
  for (let at = 0; at < entry.size; at += DIGEST_STEP) {
    const chunk = Buffer.allocUnsafe(Math.min(DIGEST_STEP, entry.size - at))
    await bytes.read(entry.offset + at, chunk, options)
    running.update(chunk)
  }
  if (running.digest('hex') !== sha256) throw damaged(archive, `has a damaged ${name}`)
  return entry.offset
}

class SparseEntrySource implements BlockSource {
  readonly size: number
  readonly #segments: readonly Range[]
  /** Place of each segment's first byte in the entry's data. */
  readonly #places: Float64Array
  readonly #hole: 'zero' | 'absent'
  readonly #blocks: VerifiedBlocks

  constructor(size: number, segments: readonly Range[], hole: 'zero' | 'absent', blocks: VerifiedBlocks) {
    this.size = size
    this.#segments = segments
    this.#hole = hole
    this.#blocks = blocks
    this.#places = new Float64Array(segments.length)
    let place = 0
    for (const [index, { length }] of segments.entries()) {
      this.#places[index] = place
      place += length
    }
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    this.#inside({ offset, length: into.length })
    for (const part of this.#parts({ offset, length: into.length })) {
      const target = into.subarray(part.offset - offset, rangeEnd(part) - offset)
      if (part.place === undefined) target.fill(0)
      else await this.#copy(part.place, target, options)
    }
  }

  async *extents(range: Range): AsyncGenerator<Extent> {
    this.#inside(range)
    for (const { offset, length, place } of this.#parts(range)) yield { offset, length, kind: place === undefined ? this.#hole : 'data' }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The archive owns the file.
  }

  async #copy(place: number, target: Uint8Array, options?: Abortable): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const block = Math.floor((place + at) / DIGEST_STEP)
      const inside = (place + at) % DIGEST_STEP
      const bytes = (await this.#blocks.get(block, options)).subarray(inside, inside + target.length - at)
      target.set(bytes, at)
      at += bytes.length
    }
  }

  /** `range` cut at the borders of segments; `place` undefined = a hole. */
  *#parts(range: Range): Generator<Range & { readonly place: number | undefined }> {
    const end = rangeEnd(range)
    let index = this.#firstEndingAfter(range.offset)
    for (let offset = range.offset; offset < end; ) {
      const segment = this.#segments[index]
      if (segment === undefined || segment.offset >= end) {
        yield { offset, length: end - offset, place: undefined }
        return
      }
      if (offset < segment.offset) {
        yield { offset, length: segment.offset - offset, place: undefined }
        offset = segment.offset
      }
      const stop = Math.min(end, rangeEnd(segment))
      yield { offset, length: stop - offset, place: (this.#places[index] ?? 0) + offset - segment.offset }
      offset = stop
      index++
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

  #inside(range: Range): void {
    if (range.offset < 0 || range.length < 0 || rangeEnd(range) > this.size) {
      throw new AgentError('USAGE', `Bytes ${range.offset} to ${rangeEnd(range)} are outside a disk of ${this.size} bytes.`)
    }
  }
}

const damaged = (archive: TarArchive, what: string): AgentError =>
  new AgentError('INTEGRITY', `The archive ${archive.path} ${what}.`, { subject: archive.path })
