import { createTokens, type Tokens } from './token-bucket.ts'

/** Sessions of one host at once: ours take 4 MiB each of its NFC buffers, which are 48 MB before ESXi 8 and 96 MB since. */
const PER_HOST = 11
/** Connections that one vCenter hands out at once. */
const PER_VCENTER = 52

/** Which limits an NFC session counts against. One object for all transports and runs of a process, made by the composition root. */
export interface NfcLimits {
  /** Every limit that a session of this host, asked for at this vCenter, counts against; always taken in this order. */
  of(vcenter: string, host: string): readonly Tokens[]
  /** All that are in use, for status. */
  readonly all: readonly Tokens[]
}

export function createNfcLimits(
  limits: { readonly perHost?: number | undefined; readonly perVcenter?: number | undefined } = {},
): NfcLimits {
  const known = new Map<string, Tokens>()
  const named = (name: string, limit: number): Tokens => {
    const tokens = known.get(name) ?? createTokens(name, limit)
    known.set(name, tokens)
    return tokens
  }
  return Object.freeze({
    of: (vcenter: string, host: string) => [
      named(`NFC connections through ${vcenter}`, limits.perVcenter ?? PER_VCENTER),
      named(`NFC sessions of ${host}`, limits.perHost ?? PER_HOST),
    ],
    get all() {
      return [...known.values()]
    },
  })
}
