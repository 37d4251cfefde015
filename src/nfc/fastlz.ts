import { AgentError } from '../core/index.ts'

/** This offset stands for a further one in two more bytes. */
const FAR = 0x1fff

/**
 * Decodes one raw FastLZ block (levels 1 and 2) into exactly `into`; INTEGRITY for anything that reads or writes out of bounds or ends early.
 * The format is public; docs/formats/nfc.md has the instructions.
 */
export function decodeFastLz(block: Uint8Array, into: Uint8Array): void {
  const level = ((block[0] ?? 0xff) >> 5) + 1
  if (level > 2) throw broken()
  /** A length byte of this value is followed by another. */
  const goesOn = level === 2 ? 255 : undefined
  let at = 0
  let out = 0
  const next = (): number => {
    const byte = block[at++]
    if (byte === undefined) throw broken()
    return byte
  }
  for (let first = true; at < block.length; first = false) {
    const control = first ? next() & 31 : next()
    if (control < 32) {
      const count = control + 1
      if (at + count > block.length || out + count > into.length) throw broken()
      into.set(block.subarray(at, at + count), out)
      at += count
      out += count
      continue
    }
    let length = (control >> 5) + 2
    if (length === 9) {
      let more: number
      do length += more = next()
      while (more === goesOn)
    }
    const low = next()
    let distance = ((control & 31) << 8) | low
    if (level === 2 && distance === FAR) distance += (next() << 8) | next()
    distance += 1
    if (distance > out || out + length > into.length) throw broken()
    if (distance >= length) into.copyWithin(out, out - distance, out - distance + length)
    else for (let index = 0; index < length; index++) into[out + index] = into[out + index - distance] ?? 0
    out += length
  }
  if (out !== into.length) throw broken()
}

/** Longest literal run and longest copy of one instruction of level 1, and how far back it reaches. */
const LITERALS = 32
const COPY = 264
const REACH = 8192
const HASH_BITS = 13

/** One raw FastLZ block of level 1, which every host decodes. Not smaller for every input: the caller compares. Input of 16 bytes and more. */
export function encodeFastLz(data: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(data.length + Math.ceil(data.length / LITERALS) + 1)
  const seen = new Int32Array(1 << HASH_BITS).fill(-1)
  let to = 0
  let literal = 0
  const flush = (end: number): void => {
    for (; literal < end; literal += LITERALS) {
      const run = data.subarray(literal, Math.min(end, literal + LITERALS))
      out[to++] = run.length - 1
      out.set(run, to)
      to += run.length
    }
    literal = end
  }
  for (let at = 0; at + 3 <= data.length; ) {
    const key = (data[at] ?? 0) | ((data[at + 1] ?? 0) << 8) | ((data[at + 2] ?? 0) << 16)
    const slot = Math.imul(key, 2654435761) >>> (32 - HASH_BITS)
    const before = seen[slot] ?? -1
    seen[slot] = at
    // The block begins with literals: its first byte also tells the level.
    const length = before < 0 || at - before > REACH ? 0 : equalBytes(data, before, at)
    if (length < 3) {
      at++
      continue
    }
    flush(at)
    const distance = at - before - 1
    if (length < 9) out[to++] = ((length - 2) << 5) | (distance >> 8)
    else {
      out[to++] = (7 << 5) | (distance >> 8)
      out[to++] = length - 9
    }
    out[to++] = distance & 255
    at += length
    literal = at
  }
  flush(data.length)
  return out.subarray(0, to)
}

/** How many bytes from `before` on repeat at `at`, up to one copy. */
function equalBytes(data: Uint8Array, before: number, at: number): number {
  const most = Math.min(COPY, data.length - at)
  let length = 0
  while (length < most && data[before + length] === data[at + length]) length++
  return length
}

const broken = (): AgentError => new AgentError('INTEGRITY', 'A FastLZ block of the host cannot be decoded.')
