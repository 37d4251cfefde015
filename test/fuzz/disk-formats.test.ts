import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type BlockSource, isAgentError } from '../../src/core/index.ts'
import {
  type ByteSource,
  decodeStreamOptimized,
  type DiskFiles,
  exportDisk,
  memoryBytes,
  memorySource,
  openChain,
  openCowd,
  openHostedSparse,
  openSeSparse,
  parseDescriptor,
  streamOptimized,
} from '../../src/disk/index.ts'
import { type Grains, writeCowd, writeSeSparse } from '../property/disk-writers.ts'

const SIZE = 3 * 1024 * 1024
const RUNS = { numRuns: 250, seed: 42 }
let directory = ''
const samples = new Map<string, Buffer>()

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-fuzz-'))
  const grains: Grains = new Map([0, 1, 2, 9, 300, 700].map((grain) => [grain, grain === 2 ? 'zero' : Buffer.alloc(4096, grain + 1)]))
  writeCowd(join(directory, 'c'), SIZE / 512, grains)
  samples.set('cowd', readFileSync(join(directory, 'c')))
  writeSeSparse(join(directory, 's'), SIZE / 512, grains)
  samples.set('sesparse', readFileSync(join(directory, 's')))
  const image = Buffer.alloc(SIZE)
  image.fill(7, 100_000, 400_000)
  await exportDisk(memorySource(image), directory, 'd', 'split-sparse')
  samples.set('hosted', readFileSync(join(directory, 'd-s001.vmdk')))
  const chunks: Uint8Array[] = []
  for await (const chunk of streamOptimized(memorySource(image), 'd')) chunks.push(chunk)
  samples.set('stream', Buffer.concat(chunks))
})
afterAll(() => rmSync(directory, { recursive: true }))

const VALUES = [0, 1, 2, 3, 4, 0x7f, 0xff, 0x1000, 0x7fffffff, 0x80000000, 0xcafebabe, 0xffffffff]
type Change = { readonly at: number; readonly value: number }
/** 32-bit words set to interesting values, most of them near the start (headers, directories, tables) or the end (footer). */
const changes = fc.array(
  fc.record({
    at: fc.oneof(fc.nat(140), fc.nat(1200), fc.nat(600_000), fc.integer({ min: -500, max: -1 })),
    value: fc.oneof(fc.constantFrom(...VALUES), fc.integer({ min: 0, max: 0xffffffff })),
  }),
  { minLength: 1, maxLength: 4 },
)

function mutated(kind: string, list: readonly Change[], cut: number): Buffer {
  const bytes = Buffer.from(samples.get(kind) ?? Buffer.alloc(0))
  const words = Math.floor(bytes.length / 4)
  for (const { at, value } of list) bytes.writeUInt32LE(value >>> 0, (((at % words) + words) % words) * 4)
  return cut === 0 ? bytes : bytes.subarray(0, Math.max(0, bytes.length - cut))
}

/** Counts reads and refuses to look outside, as a real file would. */
function guarded(bytes: Buffer): ByteSource & { readonly calls: () => number } {
  const inner = memoryBytes(bytes, 'fuzzed')
  let calls = 0
  return {
    name: inner.name,
    size: inner.size,
    calls: () => calls,
    async read(offset, into) {
      calls++
      if (!Number.isSafeInteger(offset) || offset < 0 || offset + into.length > bytes.length)
        throw new Error(`read outside: ${offset}+${into.length}`)
      await inner.read(offset, into)
    },
    async [Symbol.asyncDispose]() {},
  }
}

/** Reads and lists some of whatever opened; only an AgentError may come out, never another error. */
async function tryAll(open: () => Promise<BlockSource>): Promise<void> {
  try {
    await using source = await open()
    expect(Number.isSafeInteger(source.size)).toBe(true)
    const part = new Uint8Array(Math.min(source.size, SIZE))
    await source.read(0, part)
    await source.read(source.size - Math.min(source.size, 70_000), part.subarray(0, Math.min(source.size, 70_000)))
    let at = 0
    for await (const extent of source.extents({ offset: 0, length: source.size })) {
      expect(extent.offset).toBe(at)
      at += extent.length
    }
    expect(at).toBe(source.size)
  } catch (error) {
    if (!isAgentError(error, 'INTEGRITY', 'CONFLICT', 'USAGE', 'CONFIG', 'UNAVAILABLE', 'NOT_FOUND')) throw error
  }
}

describe('damaged VMDK files', () => {
  for (const [kind, open] of [
    ['cowd', openCowd],
    ['sesparse', openSeSparse],
    ['hosted', openHostedSparse],
    ['stream', openHostedSparse],
  ] as const) {
    it(`are read or refused, never more: ${kind}`, async () => {
      await fc.assert(
        fc.asyncProperty(changes, fc.oneof(fc.constant(0), fc.nat(300_000)), async (list, cut) => {
          const bytes = guarded(mutated(kind, list, cut))
          await tryAll(() => open(bytes))
          expect(bytes.calls()).toBeLessThan(60_000)
        }),
        RUNS,
      )
    })
  }

  it('are decoded or refused, never more: a forward stream', async () => {
    await fc.assert(
      fc.asyncProperty(changes, fc.oneof(fc.constant(0), fc.nat(60_000)), fc.integer({ min: 1, max: 9000 }), async (list, cut, size) => {
        const bytes = mutated('stream', list, cut)
        async function* chunks(): AsyncGenerator<Uint8Array> {
          for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
        }
        try {
          const stream = await decodeStreamOptimized(chunks(), 'fuzzed')
          for await (const { offset, data } of stream.grains()) expect(offset + data.length).toBeLessThanOrEqual(stream.capacityBytes)
        } catch (error) {
          if (!isAgentError(error, 'INTEGRITY')) throw error
        }
      }),
      RUNS,
    )
  })
})

const LINES = [
  'version=1',
  'version=3',
  'encoding="UTF-8"',
  'encoding="utf-16le"',
  'CID=fffffffe',
  'CID=00000001',
  'parentCID=ffffffff',
  'parentCID=00000001',
  'createType="vmfs"',
  'createType="vmfsSparse"',
  'createType="custom"',
  'createType="__proto__"',
  'createType="constructor"',
  'parentFileNameHint="a.vmdk"',
  'parentFileNameHint="../../etc/passwd"',
  'RW 8 VMFS "a.vmdk"',
  'RW 8 VMFS "../../etc/passwd"',
  'RW 8 FLAT "a.vmdk" 0',
  'RW 4503599627370496 FLAT "a.vmdk" 4503599627370496',
  'RW 8 ZERO',
  'RW 1024 SPARSE "a.vmdk"',
  'RW 8 SESPARSE "a.vmdk"',
  'RW 8 VMFSSPARSE """"',
  'RW RW RW',
  '=',
  '"="',
  'ddb.__proto__ = "x"',
  '# x',
]

describe('damaged descriptors', () => {
  it('are parsed or refused, and open nothing their directory does not hold', async () => {
    const text = fc.array(fc.oneof(fc.constantFrom(...LINES), fc.string({ unit: 'binary', maxLength: 60 })), { maxLength: 14 })
    await fc.assert(
      fc.asyncProperty(text, async (lines) => {
        const bytes = Buffer.from(lines.join('\n'))
        try {
          parseDescriptor(bytes, 'fuzzed')
        } catch (error) {
          if (!isAgentError(error, 'INTEGRITY')) throw error
        }
        const asked: string[] = []
        const files: DiskFiles = {
          async resolve(reference) {
            asked.push(reference)
            return reference
          },
          open: async (location) => memoryBytes(bytes, location),
        }
        await tryAll(() => openChain('a.vmdk', files))
        expect(asked.length).toBeLessThan(40)
      }),
      { numRuns: 2000, seed: 42 },
    )
  })

  it('of arbitrary bytes are refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(() => parseDescriptor(bytes, 'fuzzed')).toThrow(expect.toSatisfy((error: unknown) => isAgentError(error, 'INTEGRITY')))
      }),
      { numRuns: 1000, seed: 42 },
    )
  })
})
