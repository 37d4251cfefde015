import { nativeLibrary } from '../core/index.ts'
import { sodiumOneTimeAuth } from './sodium.ts'

/** Poly1305 of `bytes` with a one-time key of 32 bytes; the 16 bytes of it go into `mac`. */
export type OneTimeMac = (key: Uint8Array, bytes: Uint8Array, mac: Uint8Array) => void

/** By libsodium, loaded with the first call; 3 GB/s. */
export const sodiumMac: OneTimeMac = (key, bytes, mac) => {
  oneTimeAuth ??= sodiumOneTimeAuth()
  oneTimeAuth(mac, bytes, key)
}
let oneTimeAuth: ReturnType<typeof sodiumOneTimeAuth> | undefined

const MAC_BYTES = 16

/** `Poly1305_ctx_size()` is 248 bytes and more where registers are wider. */
const LARGEST_CONTEXT = 4096

/**
 * The node binary's own OpenSSL (include/crypto/poly1305.h, which its MAC of that name calls), which uses the widest registers a processor has: 7 GB/s on one with AVX-512. Undefined where not to be
 * had, or where it gives another MAC than that of RFC 8439.
 */
export function ffiMac(): OneTimeMac | undefined {
  const library = nativeLibrary({
    Poly1305_ctx_size: { arguments: [], return: 'u64' },
    Poly1305_Init: { arguments: ['pointer', 'pointer'], return: 'void' },
    Poly1305_Update: { arguments: ['pointer', 'pointer', 'u64'], return: 'void' },
    Poly1305_Final: { arguments: ['pointer', 'pointer'], return: 'void' },
  })
  if (library === undefined) return undefined
  const { functions, pointer } = library
  const { Poly1305_Init: init, Poly1305_Update: update, Poly1305_Final: final } = functions
  const size = Number(functions.Poly1305_ctx_size())
  if (size > LARGEST_CONTEXT) return undefined
  // The state, and the MAC: memory that stays where it is.
  const fixed = Buffer.allocUnsafeSlow(size + MAC_BYTES)
  const context = pointer(fixed)
  const result = fixed.subarray(size)
  const resultAt = pointer(result)
  const mac: OneTimeMac = (key, bytes, into) => {
    init(context, pointer(key))
    if (bytes.length > 0) update(context, pointer(bytes), BigInt(bytes.length))
    final(context, resultAt)
    into.set(result)
  }
  return agrees(mac) ? mac : undefined
}

/** RFC 8439, section 2.5.2. */
function agrees(mac: OneTimeMac): boolean {
  const found = Buffer.alloc(MAC_BYTES)
  mac(
    Buffer.from('85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b', 'hex'),
    Buffer.from('Cryptographic Forum Research Group'),
    found,
  )
  return found.toString('hex') === 'a8061dc1305136c6c22b8baf0c0127a9'
}
