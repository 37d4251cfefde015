import { AgentError } from './errors.ts'

/** Sector of every VMDK format and of vSphere's disk interfaces, whatever the guest sees. Bytes. */
export const SECTOR = 512
export const KIB = 1024
export const MIB = 1024 * 1024
export const GIB = 1024 * 1024 * 1024

/** Unsigned 64-bit little-endian value as a number; INTEGRITY when it is 2^53 or more. `what` names the field. */
export function readU64(buffer: Uint8Array, offset: number, what: string): number {
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength)
  const value = view.getBigUint64(offset, true)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new AgentError('INTEGRITY', `The field ${what} holds ${value}, which is too large to be true.`)
  }
  return Number(value)
}

export function writeU64(buffer: Uint8Array, offset: number, value: number): void {
  new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength).setBigUint64(offset, BigInt(value), true)
}

/** True when every byte is zero. Compares with a shared block of zeros, which runs at memory speed. */
export function isZero(bytes: Uint8Array): boolean {
  // Most of what is not zero says so here, without a call into the runtime.
  if ((bytes[0] ?? 0) !== 0 || (bytes[bytes.length >> 1] ?? 0) !== 0 || (bytes[bytes.length - 1] ?? 0) !== 0) return false
  for (let offset = 0; offset < bytes.length; offset += ZEROS.length) {
    const part = Math.min(ZEROS.length, bytes.length - offset)
    if (Buffer.compare(bytes.subarray(offset, offset + part), ZEROS.subarray(0, part)) !== 0) return false
  }
  return true
}
const ZEROS = new Uint8Array(MIB)

/** `1.5 GiB`, for people. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}
