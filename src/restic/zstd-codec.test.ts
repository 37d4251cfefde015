import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { constants, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { ffiCodec } from './ffi-codec.ts'
import { decompressUpTo, type ZstdCodec, zlibCodec } from './zstd-codec.ts'

const codecs: [string, (level: number) => ZstdCodec | undefined][] = [
  ['node:zlib', zlibCodec],
  ['node:ffi', ffiCodec],
]

describe.each(codecs)('zstd by %s', (_name, make) => {
  const codec = make(1)

  it.skipIf(codec === undefined)('gives back what it compressed, also from shared memory and with the other codec', () => {
    if (codec === undefined) return
    for (const length of [10, 1000, 65_536, 1_048_576, 3_000_000]) {
      const source = Buffer.from(new SharedArrayBuffer(length))
      source.fill('some text that repeats ')
      randomBytes(length >> 2).copy(source)
      const target = Buffer.alloc(length + 100_000)
      const compressed = codec.compress(source, target)
      if (length < 1000) {
        expect(compressed).toBeUndefined()
        continue
      }
      expect(compressed).toBeLessThan(length)
      const frame = target.subarray(0, compressed)
      expect(Buffer.compare(codec.decompress(frame, length) ?? Buffer.alloc(0), source)).toBe(0)
      expect(Buffer.compare(zlibCodec(1).decompress(frame, length) ?? Buffer.alloc(0), source)).toBe(0)
    }
  })

  it.skipIf(codec === undefined)('says no to what does not shrink', () => {
    const random = randomBytes(1_000_000)
    expect(codec?.compress(random, Buffer.alloc(1_100_000))).toBeUndefined()
    expect(codec?.compress(Buffer.alloc(0), Buffer.alloc(100))).toBeUndefined()
  })

  it.skipIf(codec === undefined)('opens nothing but the exact length, and no damage', () => {
    const source = Buffer.alloc(1_000_000, 'abcdefg ')
    const frame = zstdCompressSync(source, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })
    expect(codec?.decompress(frame, 999_999)).toBeUndefined()
    expect(codec?.decompress(frame, 1_000_001)).toBeUndefined()
    expect(codec?.decompress(frame, 10)).toBeUndefined()
    expect(codec?.decompress(frame.subarray(0, frame.length - 1), 1_000_000)).toBeUndefined()
    expect(codec?.decompress(randomBytes(500), 1000)).toBeUndefined()
    expect(codec?.decompress(Buffer.alloc(0), 1000)).toBeUndefined()
    const flipped = Buffer.from(frame)
    flipped[20] = (flipped[20] ?? 0) ^ 1
    expect(codec?.decompress(flipped, 1_000_000)).toBeUndefined()
    expect(codec?.decompress(frame, 1_000_000)).toHaveLength(1_000_000)
  })

  it.skipIf(codec === undefined)('obeys the level', () => {
    const text = readFileSync(process.execPath).subarray(0, 2_000_000)
    const size = (level: number): number => make(level)?.compress(text, Buffer.alloc(text.length + 20_000)) ?? text.length
    expect(size(9)).toBeLessThan(size(1))
    expect(size(1)).toBeLessThan(size(-7))
  })
})

it('stops a decompression bomb at the limit', () => {
  const bomb = zstdCompressSync(Buffer.alloc(50_000_000))
  expect(bomb.length).toBeLessThan(10_000)
  expect(decompressUpTo(bomb, 1_000_000)).toBeUndefined()
  expect(decompressUpTo(bomb, 50_000_000)).toHaveLength(50_000_000)
})

it('warns nobody about ffi, but passes other warnings', () => {
  const script = `
    const { ffiCodec } = await import(${JSON.stringify(new URL('./ffi-codec.ts', import.meta.url).href)})
    ffiCodec(1); ffiCodec(1)
    process.emitWarning('something else')`
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  expect(stderr).not.toContain('FFI')
  expect(stderr).toContain('something else')
})
