import type { ServerResponse } from 'node:http'
import type { FaultRule } from './fault-rules.ts'

/** What a fault rule can make an export lease do wrong (`lease`), by what it strikes (`on`). */
export const LEASE_QUIRKS = [
  // nfc:GET
  'corruptGrain',
  'dropGrain',
  'endEarly',
  'expire',
  'wrongDigest',
  'wrongSize',
  'noManifest',
  // ExportSnapshot, ExportVm
  'wrongThumbprint',
  'missingDisk',
] as const

export type LeaseQuirk = (typeof LEASE_QUIRKS)[number]

/** Bytes after the start of a stream-optimized file, or the grain counted from 0, where the rule's `value` does not say. */
const DEFAULT_AT = 2

/**
 * Passes an export's pieces through and does to them what the rules ask for. A piece is a grain when it begins with a grain's head: its second field,
 * the length of the data, is 0 in every marker. `expire` ends the lease and the connection before that grain.
 */
export async function* quirkyExport(
  pieces: AsyncIterable<Uint8Array>,
  rules: readonly FaultRule[],
  response: ServerResponse,
  expire: () => Promise<void>,
): AsyncGenerator<Uint8Array> {
  const strikes = new Map(rules.flatMap((rule) => (rule.lease === undefined ? [] : [[rule.lease, rule.value ?? DEFAULT_AT]])))
  let index = -1
  let grain = 0
  for await (const piece of pieces) {
    index++
    const isGrain = index > 0 && piece.length > 12 && Buffer.from(piece.buffer, piece.byteOffset).readUInt32LE(8) !== 0
    const struck = (quirk: LeaseQuirk): boolean => isGrain && strikes.get(quirk) === grain
    if (struck('endEarly')) return
    if (struck('expire')) {
      await expire()
      response.destroy()
      return
    }
    if (struck('corruptGrain')) {
      const damaged = Buffer.from(piece)
      damaged[20] = (damaged[20] ?? 0) ^ 0xff
      yield damaged
    } else if (!struck('dropGrain')) yield piece
    if (isGrain) grain++
  }
}
