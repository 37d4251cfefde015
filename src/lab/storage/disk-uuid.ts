import { randomBytes } from 'node:crypto'

/** Source of random bytes for CIDs and uuids; the composition root's. */
export type Random = (size: number) => Uint8Array
export const cryptoRandom: Random = (size) => randomBytes(size)

/** 16 bytes as `60 00 c2 9a 00 11 22 33-44 55 66 77 88 99 aa bb`, the form of ddb.uuid and of changeIds. */
export function spacedUuid(bytes: Uint8Array): string {
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0'))
  return `${hex.slice(0, 8).join(' ')}-${hex.slice(8).join(' ')}`
}

/** ddb.uuid from any way of writing one, or a new one in VMware's range of NAA ids. */
export function diskUuid(text: string | undefined, random: Random): string {
  const hex = text?.replace(/[\s-]/g, '') ?? ''
  if (/^[0-9a-fA-F]{32}$/.test(hex)) return spacedUuid(Buffer.from(hex, 'hex'))
  const bytes = Uint8Array.from(random(16))
  bytes.set([0x60, 0x00, 0xc2, 0x90 | ((bytes[3] ?? 0) & 0x0f)])
  return spacedUuid(bytes)
}

/** A new content id: 8 hex digits, and the 32 digits of longContentID that end with them. */
export function newContentId(random: Random): { readonly cid: string; readonly long: string } {
  const long = Buffer.from(random(16)).toString('hex')
  const cid = long.slice(24)
  // The two highest values have meanings of their own.
  return cid >= 'fffffffe' ? newContentId(random) : { cid, long }
}
