import fc from 'fast-check'
import { buffer } from 'node:stream/consumers'
import { pack } from 'tar-stream'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../core/index.ts'
import { memoryBytes } from '../disk/index.ts'
import { parseManifest } from './manifest.ts'
import { encodeSparseMap, parseSparseMap } from './sparse-map.ts'
import { indexArchive } from './tar-index.ts'

const archive = async (
  ...entries: readonly { name: string; body?: Buffer; pax?: Record<string, string>; type?: 'symlink' }[]
): Promise<Buffer> => {
  const stream = pack()
  for (const { name, body = Buffer.from('x'), pax, type } of entries) {
    if (type === undefined) stream.entry({ name, size: body.length, ...(pax === undefined ? {} : { pax }) }, body)
    else stream.entry({ name, type, linkname: '/etc/passwd' })
  }
  stream.finalize()
  return buffer(stream)
}
const index = (bytes: Buffer) => indexArchive(memoryBytes(bytes, 'test.tar'))

describe('indexArchive', () => {
  it('finds entries and their data', async () => {
    const bytes = await archive(
      { name: 'vm/a', body: Buffer.from('hello') },
      { name: `vm/${'ü'.repeat(120)}`, body: Buffer.alloc(1000, 7) },
    )
    const [first, second] = await index(bytes)
    expect(first).toMatchObject({ name: 'vm/a', size: 5, realSize: undefined })
    expect(bytes.toString('latin1', first?.offset, (first?.offset ?? 0) + 5)).toBe('hello')
    expect(second).toMatchObject({ name: `vm/${'ü'.repeat(120)}`, size: 1000 })
  })

  it.each(['/etc/passwd', '../x', 'vm/../../x', 'vm//x', 'vm/./x'])('refuses the name %s', async (name) => {
    await expect(archive({ name: 'vm/ok', pax: { path: name } }).then(index)).rejects.toMatchObject({ code: 'INTEGRITY' })
  })

  it('refuses links, other sparse forms and wrong checksums', async () => {
    await expect(archive({ name: 'vm/l', type: 'symlink' }).then(index)).rejects.toMatchObject({ code: 'INTEGRITY' })
    const old = { 'GNU.sparse.major': '0', 'GNU.sparse.minor': '1', 'GNU.sparse.realsize': '1' }
    await expect(archive({ name: 'vm/s', pax: old }).then(index)).rejects.toMatchObject({ code: 'INTEGRITY' })
    const damaged = await archive({ name: 'vm/a' })
    damaged[3] = 0x21
    await expect(index(damaged)).rejects.toMatchObject({ code: 'INTEGRITY' })
  })

  it('answers rubbish with INTEGRITY, in bounded time', async () => {
    const good = await archive({ name: 'vm/a', body: Buffer.alloc(3000, 1) }, { name: 'vm/b', pax: { comment: 'c' } })
    const flips = fc.array(fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) }), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(flips, fc.nat(good.length), async (changes, length) => {
        const bytes = Buffer.from(good.subarray(0, length))
        for (const { at, value } of changes) if (at < bytes.length) bytes[at] = value
        const entries = await index(bytes).catch((error: unknown) => {
          if (!isAgentError(error, 'INTEGRITY')) throw error
          return []
        })
        for (const entry of entries) expect(entry.offset + entry.size).toBeLessThanOrEqual(bytes.length)
      }),
      { numRuns: 400, seed: 20261122 },
    )
  })
})

describe('sparse map', () => {
  it('reads back what it wrote', () => {
    const piece = fc.record({ gap: fc.integer({ min: 1, max: 2 ** 40 }), length: fc.integer({ min: 1, max: 2 ** 30 }) })
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 300 }), fc.nat(2 ** 40), (pieces, tail) => {
        let at = 0
        const segments = pieces.map(({ gap, length }) => {
          const offset = at + gap
          at = offset + length
          return { offset, length }
        })
        const data = segments.reduce((sum, { length }) => sum + length, 0)
        const map = encodeSparseMap(segments, at + tail)
        expect(map.length % 512).toBe(0)
        expect(parseSparseMap(map, at + tail, map.length + data, 'x')).toEqual({ segments, mapBytes: map.length })
        expect(() => parseSparseMap(map, at + tail, map.length + data + 1, 'x')).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
      }),
      { seed: 20261122 },
    )
  })

  it.each(['', '1\n', '-1\n', '99999999999999999\n', '2\n0\n10\n5\n10\n', '1\n0\n9999\n', 'a\n', '1\n1.5\n1\n'])('refuses %j', (text) => {
    const head = Buffer.alloc(512)
    head.write(text)
    expect(() => parseSparseMap(head, 100, 522, 'x')).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
  })
})

describe('parseManifest', () => {
  it('answers anything with INTEGRITY or CONFIG', () => {
    expect(() => parseManifest(Buffer.from('{"manifestVersion":2}'), 'p')).toThrow(expect.objectContaining({ code: 'CONFIG' }))
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json().map((text) => Buffer.from(text)),
          fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
        ),
        (bytes) => {
          expect(() => parseManifest(bytes, 'p')).toThrow(expect.objectContaining({ code: 'INTEGRITY' }))
        },
      ),
      { numRuns: 300, seed: 20261122 },
    )
  })
})
