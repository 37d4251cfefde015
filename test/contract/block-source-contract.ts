import { describe, expect, it } from 'vitest'
import { type BlockSource, isAgentError, isZero, type Extent, type Range } from '../../src/core/index.ts'

/** A source under test and the bytes it must show. A test disposes it. */
export type SourceUnderTest = { readonly source: BlockSource; readonly image: Uint8Array }

/**
 * What every `BlockSource` promises, whoever implements or wraps it. `open` is called once per test and makes the same image each time;
 * between 4 KiB and a few MiB, not a multiple of anything round if the implementation allows it.
 */
export function blockSourceContract(name: string, open: () => Promise<SourceUnderTest>): void {
  const using = async (test: (under: SourceUnderTest) => Promise<void>): Promise<void> => {
    const under = await open()
    try {
      await test(under)
    } finally {
      await under.source[Symbol.asyncDispose]()
    }
  }

  describe(`${name} keeps the BlockSource contract`, () => {
    it('has the size of its image', () => using(async ({ source, image }) => expect(source.size).toBe(image.length)))

    it('reads the whole image', () =>
      using(async ({ source, image }) => {
        const into = new Uint8Array(image.length).fill(0xee)
        await source.read(0, into)
        expectSame(into, image, 0)
      }))

    it('reads any part into any buffer, and only there', () =>
      using(async ({ source, image }) => {
        for (const range of someRanges(image.length)) {
          const around = new Uint8Array(range.length + 32).fill(0xee)
          await source.read(range.offset, around.subarray(16, 16 + range.length))
          expectSame(around.subarray(16, 16 + range.length), image.subarray(range.offset, range.offset + range.length), range.offset)
          expect([...around.subarray(0, 16), ...around.subarray(16 + range.length)].every((byte) => byte === 0xee)).toBe(true)
        }
      }))

    it('reads concurrently', () =>
      using(async ({ source, image }) => {
        const reads = someRanges(image.length).map(async (range) => {
          const into = new Uint8Array(range.length)
          await source.read(range.offset, into)
          expectSame(into, image.subarray(range.offset, range.offset + range.length), range.offset)
        })
        await Promise.all(reads)
      }))

    it('lists ordered, gapless extents that cover exactly the range', () =>
      using(async ({ source, image }) => {
        for (const range of [{ offset: 0, length: image.length }, ...someRanges(image.length)]) {
          let at = range.offset
          for await (const extent of source.extents(range)) {
            expect(extent.offset).toBe(at)
            expect(extent.length).toBeGreaterThan(0)
            expect(['data', 'zero', 'absent']).toContain(extent.kind)
            at += extent.length
          }
          expect(at).toBe(range.offset + range.length)
        }
      }))

    it('calls nothing zero or absent that is not', () =>
      using(async ({ source, image }) => {
        for await (const extent of source.extents({ offset: 0, length: image.length })) {
          if (extent.kind !== 'data') expect(isZero(image.subarray(extent.offset, extent.offset + extent.length))).toBe(true)
        }
      }))

    it('says the same about a part as about the whole', () =>
      using(async ({ source, image }) => {
        const whole = await kinds(source, { offset: 0, length: image.length })
        for (const range of someRanges(image.length)) {
          for (const extent of await kinds(source, range)) {
            const containing = whole.find((one) => one.offset <= extent.offset && extent.offset < one.offset + one.length)
            expect(containing?.kind).toBe(extent.kind)
          }
        }
      }))

    it('lets a listing be left early', () =>
      using(async ({ source, image }) => {
        for await (const extent of source.extents({ offset: 0, length: image.length })) {
          expect(extent.offset).toBe(0)
          break
        }
        const into = new Uint8Array(Math.min(512, image.length))
        await source.read(0, into)
        expectSame(into, image.subarray(0, into.length), 0)
      }))

    it('refuses what lies outside', () =>
      using(async ({ source, image }) => {
        for (const [offset, length] of [
          [image.length, 1],
          [image.length - 1, 2],
          [-1, 1],
          [0.5, 1],
          [Number.NaN, 1],
        ] as const) {
          await expect(attempt(() => source.read(offset, new Uint8Array(length)))).rejects.toSatisfy((error) =>
            isAgentError(error, 'USAGE'),
          )
        }
        await expect(attempt(() => kinds(source, { offset: 1, length: image.length }))).rejects.toSatisfy((error) =>
          isAgentError(error, 'USAGE'),
        )
      }))

    it('stops when canceled', () =>
      using(async ({ source, image }) => {
        const options = { signal: AbortSignal.abort() }
        await expect(attempt(() => source.read(0, new Uint8Array(image.length), options))).rejects.toSatisfy((error) =>
          isAgentError(error, 'CANCELED'),
        )
        await expect(attempt(() => kinds(source, { offset: 0, length: image.length }, options))).rejects.toSatisfy((error) =>
          isAgentError(error, 'CANCELED'),
        )
      }))
  })
}

/** Also turns what is thrown at once into a rejection. */
const attempt = async <T>(work: () => Promise<T>): Promise<T> => work()

async function kinds(source: BlockSource, range: Range, options?: { readonly signal: AbortSignal }): Promise<Extent[]> {
  const list: Extent[] = []
  for await (const extent of source.extents(range, options)) list.push(extent)
  return list
}

/** Edges, odd lengths, grain and table borders, nothing at all; the same each time. */
function someRanges(size: number): Range[] {
  const ranges: Range[] = [
    { offset: 0, length: 0 },
    { offset: size, length: 0 },
    { offset: 0, length: Math.min(1, size) },
    { offset: size - 1, length: 1 },
  ]
  let seed = 12_345
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
    return seed % below
  }
  for (let count = 0; count < 24; count++) {
    const offset = random(size)
    ranges.push({ offset, length: Math.min(size - offset, 1 + random(count % 3 === 0 ? size : 9000)) })
  }
  for (const border of [512, 4096, 65_536, 1_048_576, 2_097_152]) {
    if (border + 600 < size) ranges.push({ offset: border - 512, length: 1024 }, { offset: border - 1, length: 2 })
  }
  return ranges
}

function expectSame(actual: Uint8Array, expected: Uint8Array, offset: number): void {
  if (Buffer.compare(actual, expected) === 0) return
  const at = actual.findIndex((byte, index) => byte !== expected[index])
  expect.fail(`byte ${offset + at} is ${actual[at]}, should be ${expected[at]} (${actual.length} bytes read, ${expected.length} expected)`)
}
