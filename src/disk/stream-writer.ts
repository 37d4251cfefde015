import { promisify } from 'node:util'
import { deflate } from 'node:zlib'
import { type Abortable, AgentError, type BlockSource, isZero, SECTOR, throwIfAborted, writeU64 } from '../core/index.ts'
import type { ExportProgress } from './copy-disk.ts'
import { dataChunks } from './data-chunks.ts'
import { formatDescriptor } from './descriptor-writer.ts'
import { formatHostedSparseHeader, GRAIN_BYTES } from './hosted-sparse-format.ts'
import { ENTRIES_PER_TABLE } from './hosted-sparse-header.ts'
import { checkNewDisk, type DiskLook, newDescriptor } from './new-descriptor.ts'
import { formatMarker, MARKER } from './stream-marker.ts'

const deflateAsync = promisify<Uint8Array, { level: number }, Buffer>(deflate)

const DESCRIPTOR = { offset: 1, size: 20 }
const OVERHEAD_SECTORS = GRAIN_BYTES / SECTOR

export type StreamOptions = Abortable &
  DiskLook & {
    /** zlib level 1 to 9; default 6, as VMware's tools. */
    readonly level?: number | undefined
    readonly onProgress?: ((progress: ExportProgress) => void) | undefined
  }

/**
 * The disk as one streamOptimized VMDK (docs/formats/vmdk-stream-optimized.md), forward only: for a file or a lease's upload. The same
 * disk, name and options give the same bytes. Zero grains are left out. Memory: a few MiB and 4 bytes for each 32 MiB of disk.
 * The caller owns `source`. Errors: USAGE (name, size), CAPACITY (more than 2 TiB compressed), those of the source.
 */
export async function* streamOptimized(source: BlockSource, name: string, options: StreamOptions = {}): AsyncGenerator<Uint8Array> {
  checkNewDisk(name, source.size)
  const sectors = source.size / SECTOR
  const level = options.level ?? 6
  const layout = { capacity: sectors, descriptor: DESCRIPTOR, redundantDirectory: 0, overhead: OVERHEAD_SECTORS }
  const head = new Uint8Array(OVERHEAD_SECTORS * SECTOR)
  head.set(formatHostedSparseHeader('streamOptimized', { ...layout, directory: undefined }))
  head.set(embeddedDescriptor(source.size, name, options), DESCRIPTOR.offset * SECTOR)

  const directory = new Uint32Array(Math.ceil(source.size / (GRAIN_BYTES * ENTRIES_PER_TABLE)))
  let table = new Uint32Array(ENTRIES_PER_TABLE)
  let current = -1
  let position = 0
  let written = 0
  const out = (bytes: Uint8Array): Uint8Array => {
    position += bytes.length / SECTOR
    written += bytes.length
    if (position > 0xffffffff)
      throw new AgentError('CAPACITY', `${name} needs more than 2 TiB as streamOptimized.`, { retry: 'never', next: 'Export it flat.' })
    return bytes
  }
  const endTable = function* (): Generator<Uint8Array> {
    if (current < 0) return
    yield out(formatMarker(MARKER.grainTable, (ENTRIES_PER_TABLE * 4) / SECTOR))
    directory[current] = position
    yield out(littleEndian(table))
    table = new Uint32Array(ENTRIES_PER_TABLE)
  }

  yield out(head)
  for await (const { offset, data } of dataChunks(source, { offset: 0, length: source.size }, GRAIN_BYTES, options)) {
    // All grains of a chunk are compressed at once, in the thread pool, and leave in order.
    const packed = await Promise.all(grainsOf(offset, data).map((grain) => pack(grain, level)))
    for (const { grain, bytes } of packed) {
      const index = Math.floor(grain / ENTRIES_PER_TABLE)
      if (index !== current) yield* endTable()
      current = index
      table[grain % ENTRIES_PER_TABLE] = position
      yield out(bytes)
    }
    options.onProgress?.({ doneBytes: offset + data.length, writtenBytes: written })
  }
  throwIfAborted(options)
  yield* endTable()
  yield out(formatMarker(MARKER.grainDirectory, Math.ceil((directory.length * 4) / SECTOR)))
  const directoryAt = position
  yield out(padded(littleEndian(directory)))
  yield out(formatMarker(MARKER.footer, 1))
  yield out(formatHostedSparseHeader('streamOptimized', { ...layout, directory: directoryAt }))
  yield out(formatMarker(MARKER.endOfStream, 0))
  options.onProgress?.({ doneBytes: source.size, writtenBytes: written })
}

function embeddedDescriptor(size: number, name: string, look: DiskLook): Uint8Array {
  const extent = { access: 'RW', sectors: size / SECTOR, type: 'SPARSE', file: `${name}.vmdk` } as const
  const text = formatDescriptor(newDescriptor(name, size, 'streamOptimized', [extent], look))
  if (text.length > DESCRIPTOR.size * SECTOR)
    throw new AgentError('USAGE', `The descriptor of ${name} is too long for a streamOptimized file.`)
  return text
}

type Grain = { readonly grain: number; readonly data: Uint8Array }

function grainsOf(offset: number, data: Uint8Array): Grain[] {
  const grains: Grain[] = []
  for (let at = 0; at < data.length; at += GRAIN_BYTES) {
    const part = data.subarray(at, at + GRAIN_BYTES)
    if (!isZero(part)) grains.push({ grain: (offset + at) / GRAIN_BYTES, data: part })
  }
  return grains
}

/** Marker head {u64 LBA, u32 size} and zlib data, padded to a sector. */
async function pack({ grain, data }: Grain, level: number): Promise<{ readonly grain: number; readonly bytes: Uint8Array }> {
  const packed = await deflateAsync(data, { level })
  const bytes = new Uint8Array(Math.ceil((12 + packed.length) / SECTOR) * SECTOR)
  writeU64(bytes, 0, (grain * GRAIN_BYTES) / SECTOR)
  new DataView(bytes.buffer).setUint32(8, packed.length, true)
  bytes.set(packed, 12)
  return { grain, bytes }
}

/** Entries as the file holds them, whatever this processor's byte order. */
export function littleEndian(entries: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(entries.length * 4)
  const view = new DataView(bytes.buffer)
  for (const [index, value] of entries.entries()) view.setUint32(index * 4, value, true)
  return bytes
}

/** Zero-padded to whole sectors. */
export function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / SECTOR) * SECTOR)
  whole.set(bytes)
  return whole
}
