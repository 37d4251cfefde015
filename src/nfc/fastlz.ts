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

const broken = (): AgentError => new AgentError('INTEGRITY', 'A FastLZ block of the host cannot be decoded.')
