import { SECTOR } from '../core/index.ts'
import { type ByteSource, handOver } from './byte-source.ts'
import { corrupt } from './corrupt.ts'
import { MAX_DESCRIPTOR_BYTES } from './descriptor.ts'
import { GrainLayer } from './grain-layer.ts'
import { type HostedSparseHeader, parseHostedSparseHeader } from './hosted-sparse-header.ts'
import { hostedSparseMap } from './hosted-sparse-tables.ts'
import type { PlacedSource } from './place.ts'
import { openStreamOptimized } from './stream-optimized.ts'

/**
 * A hosted sparse (KDMV) extent as a layer, compressed ones included. Owns `bytes`, also when it fails. Errors: INTEGRITY.
 * Layout: docs/formats/vmdk-hosted-sparse.md.
 */
export function openHostedSparse(bytes: ByteSource): Promise<PlacedSource> {
  return handOver(bytes, async () => hostedSparseLayer(bytes, await readHostedSparseHeader(bytes)))
}

/** The layer of a file whose header is read already. The caller owns `bytes` until this resolves. */
export async function hostedSparseLayer(bytes: ByteSource, header: HostedSparseHeader): Promise<PlacedSource> {
  if (header.compressed) return openStreamOptimized(bytes, header)
  if (header.directory === undefined) throw corrupt(bytes.name, 'has no grain directory')
  return new GrainLayer(bytes, hostedSparseMap(bytes, header, header.directory))
}

export async function readHostedSparseHeader(bytes: ByteSource): Promise<HostedSparseHeader> {
  if (bytes.size < SECTOR) throw corrupt(bytes.name, `is only ${bytes.size} bytes long`)
  const sector = new Uint8Array(SECTOR)
  await bytes.read(0, sector)
  return parseHostedSparseHeader(sector, bytes.name)
}

/** The descriptor embedded in a KDMV file; undefined when it holds none. */
export async function readEmbeddedDescriptor(bytes: ByteSource, header: HostedSparseHeader): Promise<Uint8Array | undefined> {
  const { descriptorOffset, descriptorBytes } = header
  if (descriptorOffset === 0 || descriptorBytes === 0) return undefined
  if (descriptorBytes > MAX_DESCRIPTOR_BYTES || descriptorOffset + descriptorBytes > bytes.size) {
    throw corrupt(bytes.name, `claims a descriptor of ${descriptorBytes} bytes at ${descriptorOffset}, which it cannot hold`)
  }
  const raw = new Uint8Array(descriptorBytes)
  await bytes.read(descriptorOffset, raw)
  const end = raw.indexOf(0)
  return end < 0 ? raw : raw.subarray(0, end)
}
