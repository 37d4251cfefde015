import type { Evidence } from './evidence.ts'

/** Sizes of an NTFS volume, from its boot sector. */
export type NtfsShape = { readonly clusterBytes: number; readonly recordBytes: number; readonly sectorBytes: number; readonly mft: number }

/** Undefined where the boot sector says what cannot be. */
export function readShape(boot: Buffer): NtfsShape | undefined {
  const sectorBytes = boot.readUInt16LE(11)
  const clusterSectors = boot.readUInt8(13) > 0x80 ? 2 ** (256 - boot.readUInt8(13)) : boot.readUInt8(13)
  const clusterBytes = sectorBytes * clusterSectors
  const record = boot.readInt8(64)
  const recordBytes = record > 0 ? record * clusterBytes : 2 ** -record
  const mft = boot.readBigUInt64LE(48)
  const isPower = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value))
  if (![512, 1024, 2048, 4096].includes(sectorBytes) || !isPower(clusterSectors) || clusterBytes > 2 * 1024 * 1024) return undefined
  if (!isPower(recordBytes) || recordBytes < 512 || recordBytes > 65_536 || mft === 0n || mft > 2n ** 48n) return undefined
  return { clusterBytes, recordBytes, sectorBytes, mft: Number(mft) }
}

/** One of the first records of the MFT, which lie in a row, with its fixups undone; undefined when it is damaged. */
export async function readRecord(evidence: Evidence, shape: NtfsShape, number: number): Promise<Buffer | undefined> {
  const record = await evidence.part(shape.mft * shape.clusterBytes + number * shape.recordBytes, shape.recordBytes)
  if (record?.toString('latin1', 0, 4) !== 'FILE') return undefined
  const at = record.readUInt16LE(4)
  const count = record.readUInt16LE(6)
  if (count !== shape.recordBytes / 512 + 1 || at + count * 2 > 510) return undefined
  for (let index = 1; index < count; index++) {
    const end = index * 512 - 2
    if (record.readUInt16LE(end) !== record.readUInt16LE(at)) return undefined
    record.writeUInt16LE(record.readUInt16LE(at + index * 2), end)
  }
  return record
}

export type AttributeData =
  | { readonly kind: 'resident'; readonly bytes: Buffer }
  /** The first run of a non-resident attribute. */
  | { readonly kind: 'run'; readonly cluster: number; readonly clusters: number }

/** The unnamed attribute of `type`; undefined when there is none or the record is damaged. */
export function attributeData(record: Buffer, type: number): AttributeData | undefined {
  let at = record.readUInt16LE(20)
  while (at + 24 <= record.length) {
    const found = record.readUInt32LE(at)
    const length = record.readUInt32LE(at + 4)
    if (found === 0xffffffff || length < 24 || at + length > record.length) return undefined
    const attribute = record.subarray(at, at + length)
    if (found === type && attribute.readUInt8(9) === 0) return attribute.readUInt8(8) === 0 ? resident(attribute) : firstRun(attribute)
    at += length
  }
  return undefined
}

function resident(attribute: Buffer): AttributeData | undefined {
  const length = attribute.readUInt32LE(16)
  const at = attribute.readUInt16LE(20)
  return at + length <= attribute.length ? { kind: 'resident', bytes: attribute.subarray(at, at + length) } : undefined
}

function firstRun(attribute: Buffer): AttributeData | undefined {
  if (attribute.length < 64) return undefined
  const at = attribute.readUInt16LE(32)
  if (at >= attribute.length) return undefined
  const sizes = attribute.readUInt8(at)
  const [countBytes, placeBytes] = [sizes & 0xf, sizes >> 4]
  if (countBytes === 0 || countBytes > 6 || placeBytes === 0 || placeBytes > 6 || at + 1 + countBytes + placeBytes > attribute.length)
    return undefined
  const cluster = attribute.readIntLE(at + 1 + countBytes, placeBytes)
  return cluster < 0 ? undefined : { kind: 'run', cluster, clusters: attribute.readUIntLE(at + 1, countBytes) }
}
