import { inflateSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  allocatedBlocksReply,
  descriptorKeyReply,
  errorRecord,
  HEADER_BYTES,
  makeRecord,
  openFileReply,
  readHeader,
  RECORD,
  writeChunkHead,
  writeReply,
} from './aio-record.ts'
import { decodeChunk, encodeChunk, FASTLZ, PLAIN, SKIPZ, ZLIB } from './chunk-code.ts'
import { classicFrame, clientWordOf, errorFrame, FRAME } from './classic-frame.ts'
import { decodeFastLz, encodeFastLz } from './fastlz.ts'
import { readRequest } from './read-io.ts'
import { decodeSkipz, encodeSkipz } from './skipz.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')
const frame = (text: string): Buffer => Buffer.concat([hex(text), Buffer.alloc(264 - hex(text).length)])

describe('classic frames', () => {
  it('are those of the format page', () => {
    expect(classicFrame(FRAME.parametersReply, { 16: 1 })).toEqual(frame('24000000 000000000000000000000000 01000000'))
    expect(classicFrame(FRAME.version, { 4: 9 })).toEqual(frame('33000000 09000000'))
    expect(classicFrame(FRAME.start)).toEqual(frame('34000000'))
    expect(classicFrame(FRAME.end)).toEqual(frame('04000000'))
    expect(clientWordOf(frame(`2b000000${Buffer.from('k3Vh9QzT0bNwXa7/').toString('hex')}`))).toBe('k3Vh9QzT0bNwXa7/')
    expect(clientWordOf(frame(`2b000000${Buffer.from('PlainText').toString('hex')}`))).toBe('PlainText')
    expect(errorFrame(1, 2, 'no')).toEqual(Buffer.concat([frame('14000000 01000000 02000000 03000000'), Buffer.from('no\0')]))
  })
})

describe('AIO records', () => {
  it('answers are those of the format page', () => {
    expect(makeRecord(RECORD.openSession, 0, 16)).toEqual(Buffer.concat([hex('7ada00a1 02000000 10000000 00000000'), Buffer.alloc(16)]))
    expect(readHeader(hex('7ada00a1 16000000 04000000 02000000'))).toEqual({ magic: 0xa100da7a, type: 22, length: 4, opId: 2 })
    const opened = openFileReply(3, { handle: 0xffffffff9c40a5e0n, flags: 0x1e, capacity: 3 * 2 ** 30, sectorSize: 512 })
    expect(opened).toEqual(
      hex(`7ada00a1 04000000 3c000000 03000000 0000000000000000 e0a5409cffffffff 020000001e00000000000000000000c0
           0000000000020000 87010000ff000000 3f000000 0000000000000000`),
    )
    const refused = errorRecord(3, 11, "NfcAioProcessOpenFileMsg: permission check failed for file '[lab-ds1] db02/db02.vmdk', access = 1")
    expect(refused.subarray(0, 32)).toEqual(hex('7ada00a1 01000000 10000000 03000000 0b00000000000000 00000000 61000000'))
    const used = new Set([0, 1, 2, 3, 15, 16])
    const map = allocatedBlocksReply(9, 20, 20, (chunk) => used.has(chunk))
    expect(map).toEqual(
      Buffer.concat([hex('7ada00a1 0d000000 30000000 09000000'), Buffer.alloc(32), hex('1400000000000000 0000000000000000 0f800100')]),
    )
    expect(descriptorKeyReply(10, 'lsilogic')).toEqual(
      hex('7ada00a1 0b000000 10000000 0a000000 000000000000000000000000 08000000 6c73696c6f676963'),
    )
    expect(descriptorKeyReply(10, undefined)).toEqual(Buffer.concat([hex('7ada00a1 0b000000 10000000 0a000000'), Buffer.alloc(16)]))
    expect(writeReply(8, 0x10000, 0x10200)).toEqual(
      hex(`7ada00a1 07000000 2c000000 08000000 00000000000000000000000000000000 0000010000000000 00020100 00000000 00020100
           00000000 00000000`),
    )
    const chunk = makeRecord(RECORD.io, 4, 44)
    writeChunkHead(chunk, { code: 0, offset: 0x12340000, total: 0x10200, position: 0x10000, length: 512, wire: 512 })
    expect(chunk).toEqual(
      hex(`7ada00a1 07000000 2c000000 04000000 0000000000000000 0100000000000000 0000341200000000 0002010000000100
           0002000000020000 00000000`),
    )
  })

  it('a read is taken as the format page writes it, and nothing that contradicts itself', () => {
    const bytes = hex(
      '7ada00a1 07000000 2c000000 05000000 e0a5409cffffffff 01000000 03000000 0000100000000000 0010000000000000 00100000 00100000 00000000',
    )
    const [header, payload] = [readHeader(bytes), bytes.subarray(HEADER_BYTES)]
    expect(readRequest(header, payload, 2 ** 24)).toEqual({ opId: 5, offset: 2 ** 20, length: 4096, code: 3 })
    expect(() => readRequest(header, payload, 2 ** 20 + 4095)).toThrow('whole sectors')
    for (const at of [16, 24, 32, 36]) {
      const wrong = Buffer.from(payload)
      wrong[at] = 1
      expect(() => readRequest(header, wrong, 2 ** 24)).toThrow()
    }
  })
})

describe('compression of chunks', () => {
  const hello = (): Buffer => {
    const chunk = Buffer.alloc(4096)
    chunk.write('HELLO', 512)
    chunk.write('WORLD!', 4090)
    return chunk
  }

  it('skipz, FastLZ and zlib make and read the vectors of the format page', () => {
    const skipped = hex('00100000 00000000 00020000 05000000 48454c4c4f fa0f0000 06000000 574f524c4421')
    expect(encodeSkipz(hello())).toEqual(skipped)
    expect(decodeSkipz(skipped, 4096)).toEqual(hello())
    expect(encodeSkipz(Buffer.alloc(4096))).toEqual(hex('00100000 00000000'))
    expect(decodeSkipz(hex('e8070000 00000000 89000000 01000000 aa 84030000 01000000 bb'), 2024)?.[137]).toBe(0xaa)
    const four = Buffer.from('NFC!'.repeat(5))
    expect(encodeFastLz(four, 1)).toEqual(hex('03 4e464321 e00703'))
    const zeros = Buffer.concat([hex('2000e0'), Buffer.alloc(256, 0xff), hex('f600')])
    expect(encodeFastLz(Buffer.alloc(65_536), 2)).toEqual(zeros)
    expect(decodeFastLz(zeros, 65_536)).toEqual(Buffer.alloc(65_536))
    const deflated = hex('7801edd081100000000321b6f7979ac7ae102a0c183060c080010306 0c183060c08081f78101ffad103d')
    expect(decodeChunk(deflated, ZLIB, 4096)).toEqual(Buffer.alloc(4096, 'A'))
    expect(encodeChunk(Buffer.alloc(4096, 'A'), ZLIB).tail.subarray(0, 2)).toEqual(hex('7801'))
  })

  it('a far match of level 2 reaches over 8192 bytes and more', () => {
    const noise = Buffer.from(Array.from({ length: 20_000 }, (_, index) => Math.imul(index + 7, 0x9e3779b1) >>> 24))
    for (const distance of [8191, 8192, 8193, 8447, 8448, 20_000]) {
      const data = Buffer.concat([noise.subarray(0, distance), noise.subarray(0, 100)])
      const block = encodeFastLz(data, 2)
      expect(block.length).toBeLessThan(distance + 50 + Math.ceil(distance / 32))
      expect([distance, independentFastLz(block).equals(data)]).toEqual([distance, true])
    }
  })

  it('whatever is encoded comes back, also through decoders written for this test', () => {
    const data = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 3000 }),
      // Runs of few values, as on disks.
      fc
        .array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 12_000 })), { minLength: 1, maxLength: 12 })
        .map((runs) => Buffer.concat(runs.map(([value, length]) => Buffer.alloc(length, value)))),
      fc
        .tuple(fc.uint8Array({ minLength: 3, maxLength: 600 }), fc.array(fc.integer({ min: 0, max: 30_000 }), { maxLength: 5 }))
        .map(([piece, gaps]) => Buffer.concat([piece, ...gaps.flatMap((gap) => [Buffer.alloc(gap, 0xee), piece])])),
    )
    fc.assert(
      fc.property(data, (bytes) => {
        const given = Buffer.from(bytes)
        for (const level of [1, 2] as const) {
          const block = encodeFastLz(given, level)
          expect(independentFastLz(block).equals(given)).toBe(true)
          expect(decodeFastLz(block, given.length)?.equals(given)).toBe(true)
        }
        const skipped = encodeSkipz(given)
        if (skipped === undefined) expect(given.includes(Buffer.alloc(1024))).toBe(false)
        else {
          expect(skipped.length).toBeLessThan(given.length)
          expect(independentSkipz(skipped).equals(given)).toBe(true)
          expect(decodeSkipz(skipped, given.length)?.equals(given)).toBe(true)
        }
        for (const code of [PLAIN, ZLIB, FASTLZ, SKIPZ]) {
          const chunk = encodeChunk(given, code)
          expect(chunk.tail.length).toBeLessThanOrEqual(given.length)
          expect(chunk.code === PLAIN || chunk.tail.length < given.length).toBe(true)
          expect(decodeChunk(Buffer.from(chunk.tail), chunk.code, given.length)?.equals(given)).toBe(true)
          if (chunk.code === ZLIB) expect(inflateSync(chunk.tail).equals(given)).toBe(true)
        }
      }),
      { seed: 902, numRuns: 150 },
    )
  })

  it('refuses what is damaged', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: 1, max: 400 }),
        fc.constantFrom(ZLIB, FASTLZ, SKIPZ),
        (bytes, length, code) => {
          const decoded = decodeChunk(Buffer.from(bytes), code, length)
          expect(decoded === undefined || decoded.length === length).toBe(true)
        },
      ),
      { seed: 903, numRuns: 500 },
    )
    expect(decodeChunk(Buffer.alloc(10), PLAIN, 11)).toBeUndefined()
    expect(decodeChunk(Buffer.alloc(10), 4, 10)).toBeUndefined()
    expect(decodeSkipz(hex('00020000 00000000 ff010000 02000000 aabb'), 512)).toBeUndefined()
    expect(decodeFastLz(hex('03 4e464321 e00704'), 20)).toBeUndefined()
  })
})

/** From the format's table alone, another way round than the lab's: grows an array. */
function independentFastLz(block: Buffer): Buffer {
  const out: number[] = []
  const level = ((block[0] ?? 0) >> 5) + 1
  let at = 0
  let code = (block[at++] ?? 0) % 32
  for (;;) {
    if (code < 32) {
      for (const byte of block.subarray(at, at + code + 1)) out.push(byte)
      at += code + 1
    } else {
      let length = (code >> 5) + 2
      if (length === 9) {
        let more: number
        do {
          more = block[at++] ?? 0
          length += more
        } while (more === (level === 2 ? 255 : -1))
      }
      let distance = (code % 32) * 256 + (block[at++] ?? 0) + 1
      if (level === 2 && distance === 8192) {
        distance = block.readUInt16BE(at) + 8192
        at += 2
      }
      const from = out.length - distance
      for (let index = 0; index < length; index++) out.push(out[from + index] ?? Number.NaN)
    }
    if (at >= block.length) return Buffer.from(out)
    code = block[at++] ?? 0
  }
}

function independentSkipz(tail: Buffer): Buffer {
  const out = Buffer.alloc(tail.readUInt32LE(0))
  for (let rest = tail.subarray(8); rest.length > 0; ) {
    const [start, length] = [rest.readUInt32LE(0), rest.readUInt32LE(4)]
    rest.copy(out, start, 8, 8 + length)
    rest = rest.subarray(8 + length)
  }
  return out
}
