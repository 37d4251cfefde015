import { AgentError } from '../core/index.ts'

const HEADER = 8

/** Decodes a skipz tail into exactly `into`: runs of bytes, zero between them. INTEGRITY for runs that overlap, go back or leave the chunk. */
export function decodeSkipz(tail: Buffer, into: Uint8Array): void {
  if (tail.length < HEADER || tail.readUInt32LE(0) !== into.length) throw broken()
  let written = 0
  for (let at = HEADER; at < tail.length; ) {
    if (at + 8 > tail.length) throw broken()
    const start = tail.readUInt32LE(at)
    const length = tail.readUInt32LE(at + 4)
    at += 8
    if (start < written || start + length > into.length || at + length > tail.length) throw broken()
    into.fill(0, written, start)
    into.set(tail.subarray(at, at + length), start)
    at += length
    written = start + length
  }
  into.fill(0, written)
}

const broken = (): AgentError => new AgentError('INTEGRITY', 'A skipz chunk of the host cannot be decoded.')
