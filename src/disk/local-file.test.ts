import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Extent, MIB, type Range, rangeEnd } from '../core/index.ts'
import { openLocalFile } from './local-file.ts'

const SIZE = 8 * MIB
/** Data here, holes between and behind. */
const DATA = [
  { offset: 0, length: MIB },
  { offset: 2 * MIB, length: 3 * MIB },
  { offset: 6 * MIB, length: 64 * 1024 },
]

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-local-file-'))
})
afterEach(() => rm(directory, { recursive: true }))

/** What is data by a list of extents; they have to follow one another over all of `range`. */
function dataOf(extents: readonly Extent[], range: Range): Range[] {
  let at = range.offset
  for (const extent of extents) {
    expect(extent.offset).toBe(at)
    expect(extent.length).toBeGreaterThan(0)
    at = rangeEnd(extent)
  }
  expect(at).toBe(rangeEnd(range))
  return extents.filter(({ kind }) => kind === 'data').map(({ offset, length }) => ({ offset, length }))
}

it('says of any part, in any order, where the data lies', async () => {
  const path = join(directory, 'disk')
  {
    await using file = await open(path, 'w')
    await file.truncate(SIZE)
    for (const { offset, length } of DATA) await file.write(Buffer.alloc(length, 1), 0, length, offset)
  }
  await using file = await openLocalFile(path)
  const range = fc.tuple(fc.nat(SIZE), fc.nat(SIZE)).map(([a, b]) => ({ offset: Math.min(a, b), length: Math.abs(a - b) }))
  await fc.assert(
    fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 20 }), async (ranges) => {
      for (const each of ranges) {
        const wanted = DATA.map(({ offset, length }) => {
          const start = Math.max(offset, each.offset)
          return { offset: start, length: Math.min(offset + length, rangeEnd(each)) - start }
        }).filter(({ length }) => length > 0)
        expect(dataOf(await Array.fromAsync(file.dataExtents?.(each) ?? []), each)).toEqual(wanted)
      }
    }),
    { numRuns: 300 },
  )
})
