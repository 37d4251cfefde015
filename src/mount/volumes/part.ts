import type { Abortable, BlockSource } from '../../core/index.ts'

/** `length` bytes at `offset` of a disk or volume; undefined where that is not wholly inside. Callers bound `length`. Errors: those of the source. */
export async function readPart(source: BlockSource, offset: number, length: number, options?: Abortable): Promise<Buffer | undefined> {
  if (!Number.isSafeInteger(offset) || offset < 0 || length <= 0 || offset + length > source.size) return undefined
  const bytes = Buffer.alloc(length)
  await source.read(offset, bytes, options)
  return bytes
}

/** u64 as a number; undefined from 2^53 on. */
export function u64(bytes: Buffer, at: number): number | undefined {
  const value = bytes.readBigUInt64LE(at)
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined
}

/** Text up to the first zero. */
export function text(bytes: Buffer, encoding: 'utf8' | 'latin1' | 'utf16le' = 'utf8'): string {
  const whole = bytes.toString(encoding)
  const end = whole.indexOf('\0')
  return end === -1 ? whole : whole.slice(0, end)
}

/** `text`, or undefined when there is none. */
export function label(bytes: Buffer, encoding: 'utf8' | 'latin1' | 'utf16le' = 'utf8'): string | undefined {
  const read = text(bytes, encoding).trimEnd()
  return read === '' ? undefined : read
}

/** Sixteen bytes as `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, lower case, in their order. */
export function uuid(bytes: Buffer): string {
  const hex = bytes.toString('hex', 0, 16)
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** Microsoft's byte order of the same: the first three fields are little-endian. */
export function guid(bytes: Buffer): string {
  const turned = Buffer.from(bytes.subarray(0, 16))
  turned.subarray(0, 4).reverse()
  turned.subarray(4, 6).reverse()
  turned.subarray(6, 8).reverse()
  return uuid(turned)
}
