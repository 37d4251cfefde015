import { createRequire } from 'node:module'
import type { crypto_onetimeauth } from 'sodium-native'

/** `crypto_onetimeauth` of libsodium, a native package. It takes 15 ms to load, so it is for who has nothing else. */
export const sodiumOneTimeAuth = (): typeof crypto_onetimeauth =>
  (createRequire(import.meta.url)('sodium-native') as { readonly crypto_onetimeauth: typeof crypto_onetimeauth }).crypto_onetimeauth
