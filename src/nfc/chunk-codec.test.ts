import { deflateSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { COMPRESSION, decodeChunk, encodeChunk } from './chunk-codec.ts'
import { decodeFastLz } from './fastlz.ts'
import { decodeSkipz } from './skipz.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

describe('FastLZ', () => {
  it('decodes the vectors of the format', () => {
    const short = Buffer.alloc(20)
    decodeFastLz(hex('03 4e 46 43 21 e0 07 03'), short)
    expect(short.toString()).toBe('NFC!'.repeat(5))
    const zeros = Buffer.alloc(65536, 1)
    decodeFastLz(Buffer.concat([hex('20 00 e0'), Buffer.alloc(256, 0xff), hex('f6 00')]), zeros)
    expect(zeros.equals(Buffer.alloc(65536))).toBe(true)
  })

  it('decodes far distances of level 2', () => {
    // 8200 literals, then 10 bytes from 8198 back: 8192 plus 6.
    const literals = Buffer.from(Array.from({ length: 8200 }, (_, index) => (index * 7) & 255))
    const runs: Buffer[] = []
    for (let at = 0; at < literals.length; at += 32) {
      const part = literals.subarray(at, at + 32)
      runs.push(Buffer.from([part.length - 1]), part)
    }
    const block = Buffer.concat([...runs, hex('ff 01 ff 0006')])
    block[0] = (block[0] ?? 0) | 0x20
    const into = Buffer.alloc(8210)
    decodeFastLz(block, into)
    expect(into.subarray(8200).equals(literals.subarray(2, 12))).toBe(true)
  })

  it.each([
    ['a copy from before the start', '03 4e 46 43 21 e0 07 04'],
    ['an unknown level', '43 4e 46 43 21'],
    ['a literal run past the end', '1f 4e 46'],
    ['too little output', '03 4e 46 43 21'],
    ['nothing', ''],
  ])('refuses %s', (_name, text) => {
    expect(() => decodeFastLz(hex(text), Buffer.alloc(20))).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  })

  it('never writes out of bounds, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 1, max: 300 }), (block, size) => {
        const around = Buffer.alloc(size + 32, 0xa5)
        try {
          decodeFastLz(block, around.subarray(16, 16 + size))
        } catch (error) {
          expect(isAgentError(error, 'INTEGRITY')).toBe(true)
        }
        expect(around.subarray(0, 16).equals(Buffer.alloc(16, 0xa5)) && around.subarray(16 + size).equals(Buffer.alloc(16, 0xa5))).toBe(
          true,
        )
      }),
      { seed: 3, numRuns: 2000 },
    )
  })
})

describe('skipz', () => {
  const vector = hex('00100000 00000000 00020000 05000000 48454c4c4f fa0f0000 06000000 574f524c4421')

  it('decodes the vector of the format', () => {
    const into = Buffer.alloc(4096, 9)
    decodeSkipz(vector, into)
    const wanted = Buffer.alloc(4096)
    wanted.write('HELLO', 512)
    wanted.write('WORLD!', 4090)
    expect(into.equals(wanted)).toBe(true)
  })

  it.each([
    ['another chunk length', '00200000 00000000'],
    ['a run past the end', '00100000 00000000 ff0f0000 02000000 4141'],
    ['runs that go back', '00100000 00000000 10000000 01000000 41 05000000 01000000 41'],
    ['a run cut short', '00100000 00000000 10000000 04000000 41'],
    ['half a run header', '00100000 00000000 1000'],
  ])('refuses %s', (_name, text) => {
    expect(() => decodeSkipz(hex(text), Buffer.alloc(4096))).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  })

  it('gives back what an encoder made of it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ gap: fc.nat(50), data: fc.uint8Array({ minLength: 1, maxLength: 50 }) }), { maxLength: 20 }),
        (runs) => {
          const size = runs.reduce((sum, run) => sum + run.gap + run.data.length, 7)
          const wanted = Buffer.alloc(size)
          const parts = [Buffer.alloc(8)]
          parts[0]?.writeUInt32LE(size, 0)
          let at = 0
          for (const { gap, data } of runs) {
            at += gap
            const head = Buffer.alloc(8)
            head.writeUInt32LE(at, 0)
            head.writeUInt32LE(data.length, 4)
            parts.push(head, Buffer.from(data))
            wanted.set(data, at)
            at += data.length
          }
          const into = Buffer.alloc(size, 1)
          decodeSkipz(Buffer.concat(parts), into)
          expect(into.equals(wanted)).toBe(true)
        },
      ),
      { seed: 4, numRuns: 500 },
    )
  })
})

describe('a chunk', () => {
  const data = Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 31) & 255))
  const decoded = (code: number, tail: Buffer, size = 4096): Buffer => {
    const into = Buffer.alloc(size)
    decodeChunk(code, tail, into)
    return into
  }

  it('of zlib is inflated, and no further than its length', () => {
    expect(decoded(COMPRESSION.zlib, deflateSync(data)).equals(data)).toBe(true)
    expect(
      decoded(
        COMPRESSION.zlib,
        hex(
          '78 01 ed d0 81 10 00 00 00 03 21 b6 f7 97 9a c7 ae 10 2a 0c 18 30 60 c0 80 01 03 06 0c 18 30 60 c0 80 81 f7 81 01 ff ad 10 3d',
        ),
      ).toString(),
    ).toBe('A'.repeat(4096))
    expect(() => decoded(COMPRESSION.zlib, deflateSync(Buffer.alloc(1 << 20)))).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  })

  it('that is stored under the code asked for is understood', () => {
    for (const code of [COMPRESSION.none, COMPRESSION.zlib, COMPRESSION.fastlz, COMPRESSION.skipz])
      expect(decoded(code, data).equals(data)).toBe(true)
  })

  it.each([
    ['of another length', COMPRESSION.none, data.subarray(1)],
    ['of an unknown compression', 9, data],
    ['with a broken stream', COMPRESSION.zlib, Buffer.from('no zlib')],
  ])('%s is refused', (_name, code, tail) => {
    expect(() => decoded(code, tail)).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  })
})

describe('what we send', () => {
  /** Chunks with repeats, zeros and noise in them. */
  const chunk = fc
    .array(
      fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 700 }),
        fc.integer({ min: 1, max: 5000 }).map((length) => new Uint8Array(length)),
        fc
          .tuple(fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.integer({ min: 1, max: 900 }))
          .map(([part, times]) => Buffer.alloc(part.length * times, part)),
      ),
      { minLength: 1, maxLength: 8 },
    )
    .map((parts) => Buffer.concat(parts))

  it.each(['none', 'zlib', 'fastlz', 'skipz'] as const)('decodes to the same with %s, and is never larger', (compression) => {
    fc.assert(
      fc.property(chunk, (data) => {
        const { code, tail } = encodeChunk(data, compression)
        expect(tail.length).toBeLessThanOrEqual(data.length)
        const back = Buffer.alloc(data.length, 0xee)
        decodeChunk(code, Buffer.from(tail), back)
        expect(back.equals(data)).toBe(true)
      }),
      { seed: 5, numRuns: 300 },
    )
  })

  it('a chunk of zeros is the header of skipz alone', () => {
    expect(encodeChunk(Buffer.alloc(4096), 'skipz')).toEqual({ code: COMPRESSION.skipz, tail: Buffer.from('0010000000000000', 'hex') })
  })
})
