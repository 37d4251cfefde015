import { promisify } from 'node:util'
import { deflate } from 'node:zlib'
import { type Abortable, isZero, SECTOR, throwIfAborted, writeU64 } from '../../core/index.ts'
import { formatDescriptor, NO_PARENT } from './descriptor.ts'
import type { DiskView } from './disk-view.ts'
import {
  DESCRIPTOR_SECTOR,
  GRAIN_BYTES,
  GRAIN_SECTORS,
  MARKER,
  OVERHEAD_SECTORS,
  streamHeader,
  streamMarker,
  TABLE_ENTRIES,
} from './stream-layout.ts'

export type ExportOptions = Abortable & { readonly name?: string | undefined; readonly uuid?: string | undefined }

const compress = promisify<Uint8Array, { level: number }, Buffer>(deflate)
const BATCH = 8

/** streamOptimized VMDK of a view, forward-only with footer; length not known before. The view must stay frozen. */
export async function* exportStream(view: DiskView, options: ExportOptions = {}): AsyncGenerator<Uint8Array> {
  const capacity = Math.ceil(view.size / SECTOR)
  const head = Buffer.alloc(OVERHEAD_SECTORS * SECTOR)
  streamHeader(capacity, undefined).copy(head)
  head.write(descriptorText(capacity, options), DESCRIPTOR_SECTOR * SECTOR, 'utf8')
  yield head
  let sector = OVERHEAD_SECTORS
  const directory = new Uint32Array(Math.ceil(capacity / GRAIN_SECTORS / TABLE_ENTRIES))
  let table = new Uint32Array(TABLE_ENTRIES)
  let tableIndex = -1
  const closeTable = (): Uint8Array => {
    directory[tableIndex] = sector + 1
    sector += 1 + bytesOf(table).length / SECTOR
    return Buffer.concat([streamMarker(bytesOf(table).length / SECTOR, MARKER.grainTable), bytesOf(table)])
  }
  for await (const { grain, data } of compressed(view, options)) {
    const index = Math.floor(grain / TABLE_ENTRIES)
    if (index !== tableIndex) {
      if (tableIndex >= 0) yield closeTable()
      table = new Uint32Array(TABLE_ENTRIES)
      tableIndex = index
    }
    const sectors = Math.ceil((12 + data.length) / SECTOR)
    const framed = Buffer.alloc(sectors * SECTOR)
    writeU64(framed, 0, grain * GRAIN_SECTORS)
    framed.writeUInt32LE(data.length, 8)
    data.copy(framed, 12)
    table[grain % TABLE_ENTRIES] = sector
    sector += sectors
    yield framed
  }
  if (tableIndex >= 0) yield closeTable()
  const directoryBytes = Buffer.alloc(Math.ceil((directory.length * 4) / SECTOR) * SECTOR)
  directoryBytes.set(bytesOf(directory))
  yield streamMarker(directoryBytes.length / SECTOR, MARKER.grainDirectory)
  yield directoryBytes
  yield Buffer.concat([streamMarker(1, MARKER.footer), streamHeader(capacity, sector + 1), streamMarker(0, MARKER.endOfStream)])
}

/** Grains with data in order, deflated a few at a time on other threads. */
async function* compressed(view: DiskView, options: Abortable): AsyncGenerator<{ grain: number; data: Buffer }> {
  let batch: { grain: number; data: Promise<Buffer> }[] = []
  const settled = async function* (): AsyncGenerator<{ grain: number; data: Buffer }> {
    const packed = await Promise.all(batch.map(async ({ grain, data }) => ({ grain, data: await data })))
    batch = []
    yield* packed
  }
  let next = 0
  for (const area of view.allocated()) {
    next = Math.max(next, Math.floor(area.offset / GRAIN_BYTES))
    for (; next * GRAIN_BYTES < area.offset + area.length; next++) {
      const raw = new Uint8Array(GRAIN_BYTES)
      view.read(next * GRAIN_BYTES, raw.subarray(0, Math.min(GRAIN_BYTES, view.size - next * GRAIN_BYTES)))
      if (isZero(raw)) continue
      batch.push({ grain: next, data: compress(raw, { level: 1 }) })
      if (batch.length < BATCH) continue
      yield* settled()
      throwIfAborted(options)
    }
  }
  yield* settled()
}

function descriptorText(capacity: number, options: ExportOptions): string {
  const name = (options.name ?? 'disk.vmdk').replace(/[\r\n"]/g, '_')
  const ddb = new Map([
    ['ddb.adapterType', 'lsilogic'],
    ['ddb.geometry.cylinders', `${Math.max(1, Math.min(65535, Math.floor(capacity / (255 * 63))))}`],
    ['ddb.geometry.heads', '255'],
    ['ddb.geometry.sectors', '63'],
    ['ddb.virtualHWVersion', '14'],
  ])
  if (options.uuid !== undefined) ddb.set('ddb.uuid', options.uuid)
  const extents = [{ access: 'RW', sectors: capacity, type: 'SPARSE', file: name }]
  return formatDescriptor({ version: 1, cid: 'fffffffe', parentCid: NO_PARENT, createType: 'streamOptimized', extents, ddb })
}

const bytesOf = (words: Uint32Array): Uint8Array => new Uint8Array(words.buffer, words.byteOffset, words.byteLength)
