import { createCipheriv } from 'node:crypto'
import { nativeLibrary } from '../core/index.ts'

/** AES-256-CTR over `bytes` in place; encrypting and decrypting are the same. `iv` has 16 bytes. The same `key` object always holds the same bytes. */
export type CtrCipher = (key: Uint8Array, iv: Uint8Array, bytes: Uint8Array) => void

/** The stable way; makes a buffer of the same size on each call. */
export const nodeCtr: CtrCipher = (key, iv, bytes) => {
  bytes.set(createCipheriv('aes-256-ctr', key, iv).update(bytes))
}

/** The node binary's own OpenSSL, in place and without garbage: half the time of `nodeCtr` for large blocks. Undefined where not to be had. */
export function ffiCtr(): CtrCipher | undefined {
  const library = nativeLibrary({
    EVP_CIPHER_CTX_new: { arguments: [], return: 'pointer' },
    EVP_aes_256_ctr: { arguments: [], return: 'pointer' },
    EVP_EncryptInit_ex: { arguments: ['pointer', 'pointer', 'pointer', 'pointer', 'pointer'], return: 'i32' },
    EVP_EncryptUpdate: { arguments: ['pointer', 'pointer', 'pointer', 'pointer', 'i32'], return: 'i32' },
  })
  if (library === undefined) return undefined
  const { functions, pointer } = library
  const { EVP_CIPHER_CTX_new: newContext, EVP_EncryptInit_ex: init, EVP_EncryptUpdate: update } = functions
  // Key, IV and the length that OpenSSL reports: memory that stays where it is.
  const fixed = Buffer.allocUnsafeSlow(64)
  const base = pointer(fixed)
  const context = newContext() as bigint
  const cipher = functions.EVP_aes_256_ctr() as bigint
  /** Whose rounds the context holds: to work them out anew for every block would cost more than the rest of a small one. */
  let keyed: Uint8Array | undefined
  const begin = (key: Uint8Array): boolean => {
    if (keyed === key) return init(context, 0n, 0n, 0n, base + 32n) === 1
    fixed.set(key, 0)
    const begun = init(context, cipher, 0n, base, base + 32n) === 1
    fixed.fill(0, 0, 32)
    keyed = begun ? key : undefined
    return begun
  }
  return (key, iv, bytes) => {
    if (bytes.length === 0) return
    fixed.set(iv, 32)
    const at = pointer(bytes)
    const done = begin(key) && update(context, at, base + 48n, at, bytes.length) === 1
    if (!done || fixed.readInt32LE(48) !== bytes.length) throw new TypeError('AES-256-CTR of OpenSSL failed')
  }
}
