import { nativeLibrary, sodiumOneTimeAuth } from './native-library.ts'

/** Poly1305 of `bytes` with a one-time key of 32 bytes; the 16 bytes of it go into `mac`. */
export type OneTimeMac = (key: Uint8Array, bytes: Uint8Array, mac: Uint8Array) => void

/** By libsodium, loaded with the first call; 3 GB/s. */
export const sodiumMac: OneTimeMac = (key, bytes, mac) => {
  oneTimeAuth ??= sodiumOneTimeAuth()
  oneTimeAuth(mac, bytes, key)
}
let oneTimeAuth: ReturnType<typeof sodiumOneTimeAuth> | undefined

const KEY_BYTES = 32
const MAC_BYTES = 16

/** The node binary's own OpenSSL, which uses the widest registers a processor has: 7 GB/s on one with AVX-512. Undefined where not to be had. */
export function ffiMac(): OneTimeMac | undefined {
  const library = nativeLibrary({
    EVP_MAC_fetch: { arguments: ['pointer', 'pointer', 'pointer'], return: 'pointer' },
    EVP_MAC_CTX_new: { arguments: ['pointer'], return: 'pointer' },
    EVP_MAC_init: { arguments: ['pointer', 'pointer', 'u64', 'pointer'], return: 'i32' },
    EVP_MAC_update: { arguments: ['pointer', 'pointer', 'u64'], return: 'i32' },
    EVP_MAC_final: { arguments: ['pointer', 'pointer', 'pointer', 'u64'], return: 'i32' },
  })
  if (library === undefined) return undefined
  const { call, pointer } = library
  // Key, MAC and its length: memory that stays where it is. First the name of the algorithm.
  const fixed = Buffer.allocUnsafeSlow(64)
  fixed.write('POLY1305\0', 'latin1')
  const algorithm = call('EVP_MAC_fetch', 0n, pointer(fixed), 0n)
  if (algorithm === 0n) return undefined
  const context = call('EVP_MAC_CTX_new', algorithm)
  return (key, bytes, mac) => {
    fixed.set(key.subarray(0, KEY_BYTES), 0)
    const base = pointer(fixed)
    const done =
      call('EVP_MAC_init', context, base, BigInt(KEY_BYTES), 0n) === 1n &&
      (bytes.length === 0 || call('EVP_MAC_update', context, pointer(bytes), BigInt(bytes.length)) === 1n) &&
      call('EVP_MAC_final', context, base + 32n, base + 48n, BigInt(MAC_BYTES)) === 1n
    fixed.fill(0, 0, KEY_BYTES)
    if (!done) throw new TypeError('Poly1305 of OpenSSL failed')
    fixed.copy(mac, 0, 32, 32 + MAC_BYTES)
  }
}
