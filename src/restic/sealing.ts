import { type Cipheriv, createCipheriv, timingSafeEqual } from 'node:crypto'
import { AgentError } from '../core/index.ts'
import { type Ciphers, ciphersFor } from './ciphers.ts'

/** Bytes that sealing adds: IV in front, MAC behind. */
export const IV_BYTES = 16
export const MAC_BYTES = 16
export const SEAL_OVERHEAD = IV_BYTES + MAC_BYTES

/** Encryption key (32 bytes), and `k` (AES-128 key) and `r` (16 bytes each) of Poly1305-AES. */
export type SealKey = { readonly encrypt: Uint8Array; readonly k: Uint8Array; readonly r: Uint8Array }

/** A key from 64 bytes of scrypt output or of fresh randomness. */
export function sealKeyFrom(bytes: Uint8Array): SealKey {
  return { encrypt: bytes.slice(0, 32), k: bytes.slice(32, 48), r: bytes.slice(48, 64) }
}

/** Bytes to be sealed where they are: `length` of them at `region[16..]`. */
export type ToSeal = { readonly region: Buffer; readonly length: number }

/**
 * Seals in place: the IV goes in front, the MAC behind. Returns the sealed part of `region`, `length + 32` bytes. `iv` = 16 random bytes, never used twice with a key.
 */
export function sealInPlace(key: SealKey, iv: Uint8Array, region: Buffer, length: number, by: Ciphers = ciphersFor('auto')): Buffer {
  sealEach(key, iv, [{ region, length }], by)
  return region.subarray(0, length + SEAL_OVERHEAD)
}

/**
 * The same for several, the IV of each after the other's in `ivs`. For blocks of disks, some hundred thousand of which pass through a core's cache in a backup: what
 * a seal needs of it is fetched once for all.
 */
export function sealEach(key: SealKey, ivs: Uint8Array, parts: readonly ToSeal[], by: Ciphers): void {
  const writeMac = macWriter(by, key, ivs)
  for (const [index, { region, length }] of parts.entries()) {
    const iv = ivs.subarray(index * IV_BYTES, (index + 1) * IV_BYTES)
    const end = IV_BYTES + length
    const body = region.subarray(IV_BYTES, end)
    region.set(iv, 0)
    by.ctr(key.encrypt, iv, body)
    writeMac(index, body, region.subarray(end, end + MAC_BYTES))
  }
}

/** A sealed copy of `plain`. For small things; blocks of disks are sealed in place. */
export function seal(key: SealKey, iv: Uint8Array, plain: Uint8Array): Buffer {
  const region = Buffer.allocUnsafe(plain.length + SEAL_OVERHEAD)
  region.set(plain, IV_BYTES)
  sealInPlace(key, iv, region, plain.length)
  return region
}

/**
 * Verifies the MAC and decrypts; with `owned`, inside `sealed` itself, which spares a copy and is the caller's to give. INTEGRITY, naming
 * `what`, when the bytes are not what was sealed with this key.
 */
export function unseal(key: SealKey, sealed: Uint8Array, what: string, by: Ciphers = ciphersFor('auto'), owned = false): Buffer {
  const plain = tryUnseal(key, sealed, by, owned)
  if (plain === undefined) throw new AgentError('INTEGRITY', `The ${what} is damaged: its authentication code does not match.`)
  return plain
}

/** As `unseal`, but undefined for a MAC that does not match: the wrong password, when it is a key. */
export function tryUnseal(key: SealKey, sealed: Uint8Array, by: Ciphers = ciphersFor('auto'), owned = false): Buffer | undefined {
  return tryUnsealEach(key, [sealed], by, owned)[0]
}

/** The same for several at once, see `sealEach`; in their order. */
export function tryUnsealEach(key: SealKey, parts: readonly Uint8Array[], by: Ciphers, owned: boolean): readonly (Buffer | undefined)[] {
  const ivs = Buffer.alloc(parts.length * IV_BYTES)
  for (const [index, sealed] of parts.entries()) ivs.set(sealed.subarray(0, IV_BYTES), index * IV_BYTES)
  const writeMac = macWriter(by, key, ivs)
  const mac = Buffer.alloc(MAC_BYTES)
  return parts.map((sealed, index) => {
    if (sealed.length < SEAL_OVERHEAD) return undefined
    const end = sealed.length - MAC_BYTES
    const body = sealed.subarray(IV_BYTES, end)
    writeMac(index, body, mac)
    if (!timingSafeEqual(mac, sealed.subarray(end))) return undefined
    const plain = owned ? Buffer.from(body.buffer, body.byteOffset, body.length) : Buffer.from(body)
    by.ctr(key.encrypt, ivs.subarray(index * IV_BYTES, (index + 1) * IV_BYTES), plain)
    return plain
  })
}

type MacWriter = (index: number, body: Uint8Array, mac: Uint8Array) => void

/** Poly1305-AES of a body, by the number of its IV: a one-time key is `r` and the IV enciphered with `k`. */
function macWriter({ mac: macOf }: Ciphers, key: SealKey, ivs: Uint8Array): MacWriter {
  const enciphered = blockCipher(key).update(ivs)
  const oneTime = Buffer.alloc(2 * MAC_BYTES)
  oneTime.set(key.r, 0)
  return (index, body, mac) => {
    oneTime.set(enciphered.subarray(index * IV_BYTES, (index + 1) * IV_BYTES), MAC_BYTES)
    macOf(oneTime, body, mac)
  }
}

/** Of the keys in use: to begin one costs more than the rest of the MAC of a small block. ECB keeps nothing from one block to the next. */
const blockCiphers = new WeakMap<SealKey, Cipheriv>()

function blockCipher(key: SealKey): Cipheriv {
  const known = blockCiphers.get(key)
  if (known !== undefined) return known
  const cipher = createCipheriv('aes-128-ecb', key.k, null).setAutoPadding(false)
  blockCiphers.set(key, cipher)
  return cipher
}
