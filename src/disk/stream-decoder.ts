import { type Abortable, AgentError, isAgentError, SECTOR } from '../core/index.ts'
import { ahead } from './ahead.ts'
import { inflateGrain, maxCompressedBytes } from './compressed-grain.ts'
import { corrupt, cutShort, notUnderstood } from './corrupt.ts'
import { type Descriptor, MAX_DESCRIPTOR_BYTES } from './descriptor.ts'
import { parseDescriptor } from './descriptor-parser.ts'
import { ForwardBytes } from './forward-bytes.ts'
import { ENTRIES_PER_TABLE, type HostedSparseHeader, parseHostedSparseHeader } from './hosted-sparse-header.ts'
import { MARKER, parseMarker } from './stream-marker.ts'
import { checkFooter } from './stream-optimized.ts'
import { StreamTally, tallyTablesUpFront } from './stream-tally.ts'

const INFLATES_AT_ONCE = 4
/** As much of a marker as tells its kind; the rest of its sector is empty, or the start of a grain's data. */
const MARKER_BYTES = 16
/** Sectors a progress marker may announce. */
const MAX_SKIP = 65_536
/** Zero bytes tolerated behind the end-of-stream marker; qemu leaves most of a grain. */
const MAX_PADDING = 4 * 1024 * 1024

/** A streamOptimized file that arrives forward only. */
export interface StreamOptimizedStream {
  /** Bytes of the disk. */
  readonly capacityBytes: number
  readonly descriptor: Descriptor | undefined
  /**
   * The stored grains in the order they come; everything not yielded is zero. Called once. Completes only when the stream is proven
   * whole: end-of-stream reached, footer right, every grain of the tables met. Errors: those of the source, CANCELED, and INTEGRITY, whose `retry`
   * says what it means for the grains already yielded: `now` = the stream was cut, `later` = the next grain is damaged, and what came before is
   * right; `never` = the stream contradicts itself, and none of it can be trusted.
   */
  grains(): AsyncIterable<StreamGrain>
}

export type StreamGrain = { readonly offset: number; readonly data: Uint8Array }

/** Starts decoding; reads the header and descriptor. `name` is for messages. Errors: INTEGRITY. */
export async function decodeStreamOptimized(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  options?: Abortable,
): Promise<StreamOptimizedStream> {
  const stream = new ForwardBytes(chunks, name, options)
  try {
    const header = parseHostedSparseHeader(await stream.take(SECTOR), name)
    if (!header.compressed || !header.markers) throw notUnderstood(name, 'is no streamOptimized VMDK')
    const descriptor = await takeDescriptor(stream, header)
    return Object.freeze({ capacityBytes: header.capacity, descriptor, grains: () => decodeGrains(stream, header) })
  } catch (error) {
    await stream.close()
    throw error
  }
}

async function takeDescriptor(stream: ForwardBytes, header: HostedSparseHeader): Promise<Descriptor | undefined> {
  const { descriptorOffset, descriptorBytes, overhead } = header
  if (descriptorOffset === 0 || descriptorBytes === 0) return undefined
  const end = descriptorOffset + descriptorBytes
  if (descriptorOffset < SECTOR || descriptorBytes > MAX_DESCRIPTOR_BYTES || end > overhead) {
    throw corrupt(stream.name, `claims a descriptor of ${descriptorBytes} bytes at ${descriptorOffset}, which it cannot hold`)
  }
  await stream.skip(descriptorOffset - stream.position)
  return parseDescriptor(await stream.take(descriptorBytes), `in ${stream.name}`)
}

type Packed = { readonly grain: number; readonly data: Uint8Array }

async function* decodeGrains(stream: ForwardBytes, header: HostedSparseHeader): AsyncGenerator<StreamGrain> {
  const { name } = stream
  const { grainBytes, capacity } = header
  try {
    yield* ahead(packedGrains(stream, header), INFLATES_AT_ONCE, async ({ grain, data }: Packed): Promise<StreamGrain> => {
      const offset = grain * grainBytes
      const needed = Math.min(grainBytes, capacity - offset)
      try {
        return { offset, data: await inflateGrain(data, grainBytes, needed, `grain ${grain}`, name) }
      } catch (error) {
        if (!isAgentError(error, 'INTEGRITY')) throw error
        throw new AgentError(error.code, error.message, { subject: name, next: error.next, cause: error, retry: 'later' })
      }
    })
  } finally {
    await stream.close()
  }
}

async function* packedGrains(stream: ForwardBytes, header: HostedSparseHeader): AsyncGenerator<Packed> {
  const { name } = stream
  const tally = new StreamTally()
  if (header.overhead < stream.position) throw corrupt(name, 'claims that its grains begin inside its header')
  if (header.directory === undefined) await stream.skip(header.overhead - stream.position)
  else await tallyTablesUpFront(stream, header, header.directory, tally)
  let footer = false
  for (;;) {
    const start = stream.position
    const head = await stream.takeOrEnd(MARKER_BYTES)
    // A file with its tables up front may simply end; the tally below tells whether it is whole.
    if (head === undefined && header.directory !== undefined) break
    if (head === undefined) throw cutShort(name, `ended early, after ${start} bytes`)
    const marker = parseMarker(head, name)
    if (marker.size !== 0) {
      tally.met(start / SECTOR)
      yield await takeGrain(stream, header, head, marker.value, marker.size)
      continue
    }
    await stream.skip(SECTOR - MARKER_BYTES)
    if (marker.type === MARKER.endOfStream && marker.value === 0) {
      if (!(await stream.restIsZero(MAX_PADDING))) throw corrupt(name, 'goes on after its end-of-stream marker')
      break
    } else if (marker.type === MARKER.grainTable && marker.value === (ENTRIES_PER_TABLE * 4) / SECTOR) {
      const table = await stream.take(ENTRIES_PER_TABLE * 4)
      if (header.directory === undefined) tally.named(table)
    } else if (marker.type === MARKER.grainDirectory && marker.value === Math.ceil((header.tables * 4) / SECTOR)) {
      await stream.skip(marker.value * SECTOR)
    } else if (marker.type === MARKER.footer && marker.value === 1) {
      checkFooter(header, parseHostedSparseHeader(await stream.take(SECTOR), name), name)
      footer = true
    } else if (marker.type === MARKER.progress && marker.value <= MAX_SKIP) {
      await stream.skip(marker.value * SECTOR)
    } else {
      throw corrupt(name, `holds a marker of type ${marker.type} announcing ${marker.value} sectors at byte ${start}`)
    }
  }
  if (header.directory === undefined && !footer) throw corrupt(name, 'has no footer, so its transfer was cut')
  tally.check(name)
}

async function takeGrain(stream: ForwardBytes, header: HostedSparseHeader, head: Uint8Array, lba: number, size: number): Promise<Packed> {
  const { name } = stream
  const grain = (lba * SECTOR) / header.grainBytes
  if (!Number.isInteger(grain) || lba * SECTOR >= header.capacity)
    throw corrupt(name, `holds a grain for sector ${lba}, which does not exist`)
  if (size > maxCompressedBytes(header.grainBytes)) throw corrupt(name, `claims ${size} compressed bytes for grain ${grain}`)
  // No zlib data is shorter than the 4 bytes of it that were read with the marker.
  if (size < MARKER_BYTES - 12) throw corrupt(name, `claims ${size} compressed bytes for grain ${grain}`)
  const data = Buffer.concat([head.subarray(12), await stream.take(size - (MARKER_BYTES - 12))])
  // qemu does not pad the very last grain of a file.
  await stream.skipUpTo((SECTOR - ((12 + size) % SECTOR)) % SECTOR)
  return { grain, data }
}
