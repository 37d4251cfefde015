import { SECTOR, type Range } from '../../core/index.ts'

/** A small seeded generator (xorshift) for repeatable disks. */
export class SeededRandom {
  #state: number

  constructor(seed: number) {
    this.#state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0) | 1
  }

  /** 32 bits. */
  next(): number {
    let state = this.#state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.#state = state >>> 0
    return this.#state
  }

  /** 0 to `limit` − 1, for limits up to 2^52. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32 + this.next() / 2 ** 64) * limit) % limit
  }

  /** Random bytes all over. */
  into(bytes: Uint8Array): void {
    const words = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 0
    for (; at + 4 <= bytes.length; at += 4) words.writeUInt32LE(this.next(), at)
    for (; at < bytes.length; at++) bytes[at] = this.next() & 0xff
  }
}

/** Distinct places for `count` blocks of `blockBytes` inside `range`, scattered evenly at random; in order. */
export function* scatteredBlocks(range: Range, blockBytes: number, count: number, random: SeededRandom): Generator<Range> {
  const places = Math.floor(range.length / blockBytes)
  const wanted = Math.min(count, places)
  for (let index = 0; index < wanted; index++) {
    const from = Math.floor((index * places) / wanted)
    const to = Math.floor(((index + 1) * places) / wanted)
    yield { offset: range.offset + (from + random.below(to - from)) * blockBytes, length: blockBytes }
  }
}

/** At least one whole sector. */
export const wholeSectors = (bytes: number): number => Math.max(SECTOR, Math.floor(bytes / SECTOR) * SECTOR)
