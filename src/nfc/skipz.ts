import { AgentError, isZero } from '../core/index.ts'

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

/** Zeros that end a run: a shorter gap costs more than its own bytes. */
const GAP = 64

/** The chunk as skipz: its runs, zeros left out. A chunk of zeros is the header alone. */
export function encodeSkipz(chunk: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER)
  header.writeUInt32LE(chunk.length, 0)
  const pieces: Uint8Array[] = [header]
  for (const [start, end] of runs(chunk)) {
    const head = Buffer.alloc(8)
    head.writeUInt32LE(start, 0)
    head.writeUInt32LE(end - start, 4)
    pieces.push(head, chunk.subarray(start, end))
  }
  return Buffer.concat(pieces)
}

function* runs(chunk: Uint8Array): Generator<readonly [start: number, end: number]> {
  let start = -1
  for (let at = 0; at < chunk.length; at += GAP) {
    const zero = isZero(chunk.subarray(at, at + GAP))
    if (zero && start >= 0) {
      yield [start, at]
      start = -1
    } else if (!zero && start < 0) start = at
  }
  if (start >= 0) yield [start, chunk.length]
}

const broken = (): AgentError => new AgentError('INTEGRITY', 'A skipz chunk of the host cannot be decoded.')
