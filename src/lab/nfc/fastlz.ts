/**
 * FastLZ blocks, levels 1 and 2, written from the public description of the format. The level is in the top three bits of the first byte, which
 * also begins the first literal run: a block starts with at least one literal.
 */

/** Shorter pieces are not worth a block. */
export const FASTLZ_MIN = 16

const HASH_BITS = 14
const MIN_MATCH = 3
/** Lengths that level 1 can say in one instruction. */
const LEVEL1_MAX = 264
const NEAR = 8192
/** Level 2 reaches this far with the two further bytes. */
const FAR = 8192 + 65_535
const MAX_LITERALS = 32

/** One block. Level 2 reaches further back and says long matches shortly. The result may be longer than the data. */
export function encodeFastLz(data: Uint8Array, level: 1 | 2): Buffer {
  const out = Buffer.allocUnsafe(data.length + Math.ceil(data.length / MAX_LITERALS) + 16)
  const table = new Int32Array(1 << HASH_BITS).fill(-1)
  const reach = level === 1 ? NEAR : FAR
  let to = 0
  let literal = 0
  let at = 0

  const literals = (end: number): void => {
    while (literal < end) {
      const count = Math.min(MAX_LITERALS, end - literal)
      out[to] = count - 1
      out.set(data.subarray(literal, literal + count), to + 1)
      to += count + 1
      literal += count
    }
  }
  const match = (length: number, distance: number): void => {
    const far = level === 2 && distance > NEAR - 1
    const offset = far ? 0x1fff : distance - 1
    const high = offset >>> 8
    if (length <= 8) out[to++] = ((length - 2) << 5) | high
    else {
      out[to++] = 0xe0 | high
      let rest = length - 9
      if (level === 2) for (; rest >= 255; rest -= 255) out[to++] = 255
      out[to++] = rest
    }
    out[to++] = offset & 255
    if (!far) return
    const beyond = distance - NEAR
    out[to++] = beyond >>> 8
    out[to++] = beyond & 255
  }

  while (at + MIN_MATCH <= data.length) {
    const hash = hashAt(data, at)
    const before = table[hash] ?? -1
    table[hash] = at
    const distance = at - before
    if (before < 0 || distance > reach || !sameThree(data, before, at)) {
      at++
      continue
    }
    const most = level === 1 ? Math.min(LEVEL1_MAX, data.length - at) : data.length - at
    let length = MIN_MATCH
    while (length < most && data[before + length] === data[at + length]) length++
    // A far match of three bytes takes four: leave it.
    if (level === 2 && distance > NEAR - 1 && length < 5) {
      at++
      continue
    }
    literals(at)
    match(length, distance)
    at += length
    literal = at
    if (at + MIN_MATCH <= data.length) table[hashAt(data, at - 1)] = at - 1
  }
  literals(data.length)
  if (level === 2) out[0] = (out[0] ?? 0) | 0x20
  return out.subarray(0, to)
}

const hashAt = (data: Uint8Array, at: number): number =>
  (Math.imul((data[at] ?? 0) | ((data[at + 1] ?? 0) << 8) | ((data[at + 2] ?? 0) << 16), 0x9e3779b1) >>> (32 - HASH_BITS)) >>> 0

const sameThree = (data: Uint8Array, a: number, b: number): boolean =>
  data[a] === data[b] && data[a + 1] === data[b + 1] && data[a + 2] === data[b + 2]

/** Decodes one block into exactly `length` bytes; undefined for anything that is not one. */
export function decodeFastLz(block: Uint8Array, length: number): Buffer | undefined {
  const first = block[0]
  if (first === undefined || first >> 5 > 1) return undefined
  const level = (first >> 5) + 1
  const out = Buffer.allocUnsafe(length)
  let at = 0
  let to = 0
  const next = (): number => block[at++] ?? Number.NaN
  for (let start = true; at < block.length; start = false) {
    const code = start ? next() & 31 : next()
    if (code < 32) {
      const count = code + 1
      if (at + count > block.length || to + count > length) return undefined
      out.set(block.subarray(at, at + count), to)
      at += count
      to += count
      continue
    }
    let count = (code >> 5) + 2
    if (code >= 0xe0) {
      for (let more = next(); ; more = next()) {
        count += more
        if (level === 1 || more !== 255) break
      }
    }
    let offset = ((code & 31) << 8) + next()
    if (level === 2 && offset === 0x1fff) offset += next() * 256 + next()
    const from = to - offset - 1
    // Bytes that are not there make these comparisons false.
    if (!(from >= 0 && to + count <= length)) return undefined
    for (let index = 0; index < count; index++) out[to + index] = out[from + index] ?? 0
    to += count
  }
  return to === length ? out : undefined
}
