import { type Abortable, AgentError, MIB } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'

/** What a LUN says of the VMFS volume on it (docs/formats/vmfs-header.md). */
export type VmfsHeader = {
  /** Of the file system, as `VmfsDatastoreInfo.vmfs.uuid` writes it; undefined on every LUN of a spanned volume but the first. */
  readonly uuid: string | undefined
  readonly label: string | undefined
}

const SECTOR = 512
/** `AA31E02A-400F-11DB-9590-000C2911D1B8` in the byte order of GPT. */
const VMFS_TYPE = Buffer.from('2ae031aa0f40db119590000c2911d1b8', 'hex')
const LVM_AT = MIB
const LVM_MAGIC = 0xc001d00d
/** From the beginning of the partition: VMFS5 and older layouts, LVM6. */
const FILE_SYSTEM_AT = [2 * MIB, 19 * MIB]
const FILE_SYSTEM_MAGICS = [0x2fabf15e, 0x2fabf15f]
const HEADER_BYTES = 512
/** A table larger than this is none: 128 entries of 128 bytes are usual. */
const MOST_ENTRIES = 1024
const VERSIONS = [14, 24]

/**
 * Reads the headers of a LUN or of a partition of one. INTEGRITY when there is no VMFS volume on it, or one that is laid out in a way this version does not
 * know. Reads less than 200 KiB.
 */
export async function readVmfsHeader(device: ByteSource, options?: Abortable): Promise<VmfsHeader> {
  for (const start of await partitions(device, options)) {
    const lvm = await part(device, start + LVM_AT, SECTOR, options)
    if (lvm?.readUInt32LE(0) !== LVM_MAGIC) continue
    for (const at of FILE_SYSTEM_AT) {
      const header = parseFileSystem(await part(device, start + at, HEADER_BYTES, options))
      if (header !== undefined) return header
    }
    return { uuid: undefined, label: undefined }
  }
  throw new AgentError('INTEGRITY', `There is no VMFS volume on ${device.name}.`, { subject: device.name })
}

/** Where VMFS partitions begin, bytes. Without a partition table the device is one. */
async function partitions(device: ByteSource, options?: Abortable): Promise<readonly number[]> {
  const header = await part(device, SECTOR, SECTOR, options)
  if (header === undefined || header.toString('latin1', 0, 8) !== 'EFI PART') return [0]
  const [table, count, size] = [header.readBigUInt64LE(72), header.readUInt32LE(80), header.readUInt32LE(84)]
  if (table > 1024n || count > MOST_ENTRIES || size < 48 || size > 4096) return []
  const found: number[] = []
  for (let index = 0; index < count; index++) {
    const entry = await part(device, Number(table) * SECTOR + index * size, 48, options)
    if (entry === undefined) break
    if (!entry.subarray(0, 16).equals(VMFS_TYPE)) continue
    const first = Number(entry.readBigUInt64LE(32)) * SECTOR
    if (Number.isSafeInteger(first)) found.push(first)
  }
  return found
}

function parseFileSystem(header: Buffer | undefined): VmfsHeader | undefined {
  if (header === undefined || !FILE_SYSTEM_MAGICS.includes(header.readUInt32LE(0))) return undefined
  const blockBytes = header.readBigUInt64LE(0xa1)
  const isPower = blockBytes >= 1n << 20n && blockBytes <= 1n << 24n && (blockBytes & (blockBytes - 1n)) === 0n
  if (!VERSIONS.includes(header.readUInt32LE(4)) || !isPower) return undefined
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0')
  const uuid = [
    hex(header.readUInt32LE(0x09), 8),
    hex(header.readUInt32LE(0x0d), 8),
    hex(header.readUInt16LE(0x11), 4),
    header.toString('hex', 0x13, 0x19),
  ].join('-')
  const label = header.subarray(0x1d, 0x9d)
  const end = label.indexOf(0)
  return { uuid, label: label.toString('utf8', 0, end === -1 ? label.length : end) }
}

/** Undefined where the device ends before. */
async function part(device: ByteSource, offset: number, length: number, options?: Abortable): Promise<Buffer | undefined> {
  if (offset + length > device.size) return undefined
  const bytes = Buffer.alloc(length)
  await device.read(offset, bytes, options)
  return bytes
}
