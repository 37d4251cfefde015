import { type Abortable, AgentError, SECTOR } from '../core/index.ts'
import { type ByteSource, handOver } from './byte-source.ts'
import { COWD_MAGIC, openCowd } from './cowd.ts'
import { type Descriptor, type DescriptorExtent, descriptorCapacity, MAX_DESCRIPTOR_BYTES } from './descriptor.ts'
import { parseDescriptor } from './descriptor-parser.ts'
import type { DiskFiles } from './disk-files.ts'
import { openFlat } from './flat.ts'
import { hostedSparseLayer, openHostedSparse, readEmbeddedDescriptor, readHostedSparseHeader } from './hosted-sparse.ts'
import { KDMV_MAGIC } from './hosted-sparse-header.ts'
import { JoinedParts, type Part } from './joined-parts.ts'
import { zeroSource } from './memory-source.ts'
import type { PlacedSource } from './place.ts'
import { checkReadable } from './readable.ts'
import { openSeSparse, SE_SPARSE_MAGIC } from './se-sparse.ts'

/** Facts of one opened link of a disk. */
export type DiskLink = {
  /** As `DiskFiles.resolve` gave it. */
  readonly location: string
  readonly descriptor: Descriptor
  readonly capacityBytes: number
}

/** One link of a disk; what it does not hold itself is `absent`. */
export interface DiskLayer extends PlacedSource {
  readonly link: DiskLink
}

/** Largest rounding of a hosted sparse extent's capacity above its extent line: one grain of 2 MiB. */
const MAX_ROUNDING = 4096 * SECTOR

/**
 * Opens the link that `reference` names: a descriptor with its extents, or a KDMV file with the descriptor inside. Every extent file is
 * opened and judged once. The caller disposes the layer.
 * Errors: NOT_FOUND, CONFIG (leaves its directory), INTEGRITY, UNAVAILABLE (RDM, vSAN, vVol: nothing to read in files), USAGE (an
 * extent was named instead of the descriptor).
 */
export async function openDisk(reference: string, files: DiskFiles, options?: Abortable): Promise<DiskLayer> {
  return openLink(await files.resolve(reference, undefined), files, options)
}

/** `openDisk` for a location that is resolved already. */
export async function openLink(location: string, files: DiskFiles, options?: Abortable): Promise<DiskLayer> {
  const bytes = await files.open(location, options)
  return handOver(bytes, async () => {
    const magic = await readMagic(bytes)
    if (magic === KDMV_MAGIC) return openEmbedded(bytes, location)
    refuseExtent(bytes.name, magic)
    const descriptor = parseDescriptor(await readWhole(bytes, options), bytes.name)
    checkReadable(descriptor, bytes.name)
    const source = await openExtents(descriptor, bytes.name, location, files)
    await bytes[Symbol.asyncDispose]()
    return withLink(source, { location, descriptor, capacityBytes: source.size })
  })
}

const withLink = (source: PlacedSource, link: DiskLink): DiskLayer =>
  Object.freeze({
    link: Object.freeze(link),
    size: source.size,
    read: source.read.bind(source),
    extents: source.extents.bind(source),
    places: source.places?.bind(source),
    [Symbol.asyncDispose]: source[Symbol.asyncDispose].bind(source),
  })

async function readMagic(bytes: ByteSource): Promise<number> {
  if (bytes.size < 4) return 0
  const raw = new Uint8Array(4)
  await bytes.read(0, raw)
  return new DataView(raw.buffer).getUint32(0, true)
}

/** Read as raw, an extent file would give silently wrong data; so it is refused by its magic or its size. */
function refuseExtent(name: string, magic: number): void {
  if (magic === COWD_MAGIC || magic === SE_SPARSE_MAGIC) {
    throw new AgentError('USAGE', `${name} is the data of a redo log, not a disk.`, {
      subject: name,
      next: 'Name the descriptor beside it (the same name without -delta or -sesparse).',
    })
  }
}

async function readWhole(bytes: ByteSource, options?: Abortable): Promise<Uint8Array> {
  if (bytes.size > MAX_DESCRIPTOR_BYTES) {
    throw new AgentError('USAGE', `${bytes.name} is too large for a VMDK descriptor.`, {
      subject: bytes.name,
      next: 'Name the small text file of the disk, not its -flat file.',
    })
  }
  const raw = new Uint8Array(bytes.size)
  await bytes.read(0, raw, options)
  return raw
}

/** monolithicSparse and streamOptimized: the file is its own only extent, whatever its descriptor calls it after a renaming. */
async function openEmbedded(bytes: ByteSource, location: string): Promise<DiskLayer> {
  const header = await readHostedSparseHeader(bytes)
  const text = await readEmbeddedDescriptor(bytes, header)
  if (text === undefined) {
    throw new AgentError('USAGE', `${bytes.name} is one piece of a split disk.`, {
      subject: bytes.name,
      next: 'Name the descriptor that lists its pieces.',
    })
  }
  const descriptor = parseDescriptor(text, bytes.name)
  checkReadable(descriptor, bytes.name)
  const [extent, ...more] = descriptor.extents
  if (extent?.type !== 'SPARSE' || more.length > 0) {
    throw new AgentError('INTEGRITY', `The descriptor inside ${bytes.name} lists other files.`, { subject: bytes.name })
  }
  // Producers of streamOptimized files write the extent line before they know better; there the header counts.
  const rounding = header.capacity - extent.sectors * SECTOR
  if (descriptor.createType.toLowerCase() !== 'streamoptimized' && (rounding < 0 || rounding >= header.grainBytes)) {
    throw disagree(bytes.name, extent, header.capacity)
  }
  const source = await hostedSparseLayer(bytes, header)
  return withLink(source, { location, descriptor, capacityBytes: source.size })
}

async function openExtents(descriptor: Descriptor, name: string, location: string, files: DiskFiles): Promise<PlacedSource> {
  const parts: Part[] = []
  let offset = 0
  for (const extent of descriptor.extents) {
    const length = extent.sectors * SECTOR
    parts.push({ offset, length, open: () => openExtent(extent, location, files) })
    offset += length
  }
  const [only, ...more] = descriptor.extents
  if (only !== undefined && more.length === 0) {
    const source = await openExtent(only, location, files)
    if (source.size === descriptorCapacity(descriptor)) return source
    await source[Symbol.asyncDispose]()
  }
  return JoinedParts.open(parts, name)
}

async function openExtent(extent: DescriptorExtent, location: string, files: DiskFiles): Promise<PlacedSource> {
  const length = extent.sectors * SECTOR
  if (extent.type === 'ZERO' || extent.file === undefined) return zeroSource(length)
  const bytes = await files.open(await files.resolve(extent.file, location))
  switch (extent.type) {
    case 'FLAT':
    case 'VMFS':
      return handOver(bytes, async () => openFlat(bytes, { offset: (extent.offset ?? 0) * SECTOR, length }))
    case 'SPARSE':
      return sameCapacity(await openHostedSparse(bytes), extent, bytes.name, MAX_ROUNDING)
    case 'VMFSSPARSE':
      return sameCapacity(await openCowd(bytes), extent, bytes.name, 0)
    case 'SESPARSE':
      return sameCapacity(await openSeSparse(bytes), extent, bytes.name, 0)
    default:
      return handOver(bytes, () => Promise.reject(new AgentError('INTERNAL', `No reader for extents of type ${extent.type}.`)))
  }
}

function sameCapacity(source: PlacedSource, extent: DescriptorExtent, name: string, rounding: number): Promise<PlacedSource> {
  return handOver(source, async () => {
    const more = source.size - extent.sectors * SECTOR
    if (more < 0 || more > rounding) throw disagree(name, extent, source.size)
    return source
  })
}

function disagree(name: string, extent: DescriptorExtent, size: number): AgentError {
  return new AgentError('INTEGRITY', `The descriptor gives ${name} ${extent.sectors} sectors, but its own header says ${size / SECTOR}.`, {
    subject: name,
    next: 'The descriptor belongs to another file, or one of them was changed; restore the right one.',
  })
}
