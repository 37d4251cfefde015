/** The one function of libsodium that is used; the package brings no types. */
declare module 'sodium-native' {
  /** Poly1305 of `message` under the one-time `key` (32 bytes, r ‖ s; r is clamped) into `mac` (16 bytes). */
  export function crypto_onetimeauth(mac: Uint8Array, message: Uint8Array, key: Uint8Array): void
}
