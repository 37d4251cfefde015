import { type CtrCipher, ffiCtr, nodeCtr } from './ctr-cipher.ts'
import { ffiMac, type OneTimeMac, sodiumMac } from './one-time-mac.ts'

/** What seals and opens. One object belongs to one thread. */
export type Ciphers = { readonly ctr: CtrCipher; readonly mac: OneTimeMac }

/** The stable ways. */
export const stableCiphers: Ciphers = Object.freeze({ ctr: nodeCtr, mac: sodiumMac })

/** The fastest ways this Node offers, the same object each time, or the stable ones when asked for. */
export function ciphersFor(choice: 'auto' | 'zlib'): Ciphers {
  if (choice === 'zlib') return stableCiphers
  fastest ??= Object.freeze({ ctr: ffiCtr() ?? nodeCtr, mac: ffiMac() ?? sodiumMac })
  return fastest
}
let fastest: Ciphers | undefined
