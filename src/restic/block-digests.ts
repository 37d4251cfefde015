import { hash } from 'node:crypto'
import { nativeLibrary } from '../core/index.ts'

/** SHA-256 of several blocks, 32 bytes each, in their order. One object belongs to one thread. */
export type BlockDigests = (blocks: readonly Uint8Array[]) => readonly Uint8Array[]

/** One after the other. */
export const digestsOneByOne: BlockDigests = (blocks) => blocks.map((block) => hash('sha256', block, 'buffer'))

/** Blocks that are worth being given at once: four, or two. */
export const MOST_AT_ONCE = 4

const CHUNK = 64
const WORDS = 8
/** Lanes of OpenSSL's structures, of which a call with `num` 1 uses the first four. */
const LANES = 8
const START = Uint32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19)

const START_OF_LANES = Uint32Array.from({ length: WORDS * LANES }, (_, at) => START[Math.floor(at / LANES)] ?? 0)

/* One allocation: the state, `unsigned int [8 words][8 lanes]`; descriptors, `{ const unsigned char *ptr; int blocks; }` for each lane; the last one or two chunks of each message. */
const STATE_BYTES = WORDS * LANES * 4
const DESCRIPTOR_BYTES = 16
const TAILS_AT = STATE_BYTES + LANES * DESCRIPTOR_BYTES
const TAIL_BYTES = 2 * CHUNK
const MEMORY_BYTES = TAILS_AT + MOST_AT_ONCE * TAIL_BYTES
/** The state has to begin at a multiple of it. */
const ALIGNMENT = 64

/** Lengths around every edge of the padding, and one of many chunks. */
const TRIED_LENGTHS = [1, 55, 56, 63, 64, 65, 119, 120, 128, 4096 + 13]

/**
 * Two or four messages side by side, by `sha256_multi_block` of the node binary's own OpenSSL (crypto/sha/asm/sha256-mb-x86_64.pl; called there by its TLS ciphers, see
 * providers/implementations/ciphers/cipher_aes_cbc_hmac_sha256_hw.c): one message keeps the SHA instructions of a processor waiting for its own last round, two do not (1.65 against 1.26 GB/s); without those
 * instructions four in vector registers are nearly twice as fast as one. Undefined where it is not to be had, or gives other digests than `node:crypto`.
 */
export function digestsSideBySide(): BlockDigests | undefined {
  if (process.arch !== 'x64') return undefined
  const library = nativeLibrary({ sha256_multi_block: { arguments: ['pointer', 'pointer', 'i32'], return: 'void' } })
  if (library === undefined) return undefined
  const whole = Buffer.allocUnsafeSlow(MEMORY_BYTES + ALIGNMENT)
  const skipped = Number(-library.pointer(whole) & BigInt(ALIGNMENT - 1))
  const memory = whole.subarray(skipped, skipped + MEMORY_BYTES)
  const base = library.pointer(memory)
  const state = new Uint32Array(memory.buffer, memory.byteOffset, WORDS * LANES)

  const lane = (at: number, pointer: bigint, chunks: number): void => {
    memory.writeBigUInt64LE(pointer, STATE_BYTES + at * DESCRIPTOR_BYTES)
    memory.writeInt32LE(chunks, STATE_BYTES + at * DESCRIPTOR_BYTES + 8)
  }
  const { sha256_multi_block: digestLanes } = library.functions
  const descriptors = base + BigInt(STATE_BYTES)
  const run = (): void => void digestLanes(base, descriptors, 1)
  const few = (blocks: readonly Uint8Array[]): Uint8Array[] => {
    state.set(START_OF_LANES)
    memory.fill(0, STATE_BYTES)
    for (const [at, block] of blocks.entries()) lane(at, library.pointer(block), Math.floor(block.length / CHUNK))
    run()
    for (const [at, block] of blocks.entries()) {
      const tail = memory.subarray(TAILS_AT + at * TAIL_BYTES, TAILS_AT + (at + 1) * TAIL_BYTES)
      const rest = block.length % CHUNK
      tail.set(block.subarray(block.length - rest))
      tail[rest] = 0x80
      const chunks = rest + 9 <= CHUNK ? 1 : 2
      tail.writeBigUInt64BE(BigInt(block.length) * 8n, chunks * CHUNK - 8)
      lane(at, base + BigInt(TAILS_AT + at * TAIL_BYTES), chunks)
    }
    run()
    return blocks.map((_, at) => {
      const digest = Buffer.allocUnsafe(WORDS * 4)
      for (let word = 0; word < WORDS; word++) digest.writeUInt32BE(state[word * LANES + at] ?? 0, word * 4)
      return digest
    })
  }
  const digests: BlockDigests = (blocks) => {
    const all = new Map<Uint8Array, Uint8Array>()
    // The first pair of lanes that has nothing to do ends a call, whatever stands behind it: so none has.
    const long = blocks.filter(({ length }) => length >= CHUNK)
    for (let at = 0; long.length - at > 1; ) {
      const group = long.slice(at, at + (long.length - at >= MOST_AT_ONCE ? MOST_AT_ONCE : 2))
      for (const [index, digest] of few(group).entries()) all.set(group[index] ?? digest, digest)
      at += group.length
    }
    return blocks.map((block) => all.get(block) ?? hash('sha256', block, 'buffer'))
  }
  return agrees(digests) ? digests : undefined
}

function agrees(digests: BlockDigests): boolean {
  const bytes = Buffer.from(Uint8Array.from({ length: 8192 }, (_, index) => (index * 31 + (index >> 8)) & 0xff))
  const blocks = TRIED_LENGTHS.flatMap((length, at) => [bytes.subarray(at, at + length), bytes.subarray(at * 7, at * 7 + length)])
  const expected = digestsOneByOne(blocks)
  const right = (found: readonly Uint8Array[], from: number): boolean =>
    found.every((digest, index) => Buffer.compare(digest, expected[from + index] ?? digest.subarray(1)) === 0)
  return right(digests(blocks), 0) && right(digests(blocks.slice(1, 3)), 1)
}
