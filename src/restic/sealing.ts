import { type Cipheriv, createCipheriv, timingSafeEqual } from 'node:crypto'
import { AgentError } from '../core/index.ts'
import { type Ciphers, stableCiphers } from './ciphers.ts'

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

/**
 * Seals the `length` bytes that stand at `region[16..]` in place: the IV goes in front, the MAC behind. Returns the sealed part of
 * `region`, `length + 32` bytes. `iv` = 16 random bytes, never used twice with a key.
 */
export function sealInPlace(key: SealKey, iv: Uint8Array, region: Buffer, length: number, by: Ciphers = stableCiphers): Buffer {
  const body = region.subarray(IV_BYTES, IV_BYTES + length)
  region.set(iv, 0)
  by.ctr(key.encrypt, iv, body)
  writeMac(by, key, iv, body, region.subarray(IV_BYTES + length, IV_BYTES + length + MAC_BYTES))
  return region.subarray(0, length + SEAL_OVERHEAD)
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
export function unseal(key: SealKey, sealed: Uint8Array, what: string, by: Ciphers = stableCiphers, owned = false): Buffer {
  const plain = tryUnseal(key, sealed, by, owned)
  if (plain === undefined) throw new AgentError('INTEGRITY', `The ${what} is damaged: its authentication code does not match.`)
  return plain
}

/** As `unseal`, but undefined for a MAC that does not match: the wrong password, when it is a key. */
export function tryUnseal(key: SealKey, sealed: Uint8Array, by: Ciphers = stableCiphers, owned = false): Buffer | undefined {
  if (sealed.length < SEAL_OVERHEAD) return undefined
  const iv = sealed.subarray(0, IV_BYTES)
  const body = sealed.subarray(IV_BYTES, sealed.length - MAC_BYTES)
  const mac = Buffer.alloc(MAC_BYTES)
  writeMac(by, key, iv, body, mac)
  if (!timingSafeEqual(mac, sealed.subarray(sealed.length - MAC_BYTES))) return undefined
  const plain = owned ? Buffer.from(body.buffer, body.byteOffset, body.length) : Buffer.from(body)
  by.ctr(key.encrypt, iv, plain)
  return plain
}

function writeMac({ mac: macOf }: Ciphers, key: SealKey, iv: Uint8Array, body: Uint8Array, mac: Uint8Array): void {
  const oneTime = Buffer.alloc(32)
  oneTime.set(key.r, 0)
  oneTime.set(blockCipher(key).update(iv), 16)
  macOf(oneTime, body, mac)
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
