import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { changeImage, makeImage, makeSparseImage, parseSize } from '../../bench/image.ts'
import { measure, median } from '../../bench/measure.ts'

const SIZE = 64 * 1024 * 1024
const BLOCK = 64 * 1024
let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vcb-bench-test-'))
})
afterAll(() => rmSync(directory, { recursive: true }))

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

it('makes the same disk every time, about half of it allocated', () => {
  const [first, second] = [join(directory, 'a'), join(directory, 'b')]
  const ranges = makeImage(first, SIZE)
  makeImage(second, SIZE)
  const image = readFileSync(first)
  expect(image).toHaveLength(SIZE)
  expect(digest(image)).toBe(digest(readFileSync(second)))
  const share = ranges.reduce((sum, range) => sum + range.length, 0) / SIZE
  expect(share).toBeGreaterThan(0.5)
  expect(share).toBeLessThan(0.55)
  for (const [index, range] of ranges.entries())
    expect(range.offset).toBeGreaterThanOrEqual((ranges[index - 1]?.offset ?? 0) + (ranges[index - 1]?.length ?? 0))
})

it('tells exactly what it changed', () => {
  const path = join(directory, 'changed')
  makeImage(path, SIZE)
  const before = readFileSync(path)
  const changes = changeImage(path, 0.05)
  const after = readFileSync(path)
  expect(changes.reduce((sum, range) => sum + range.length, 0)).toBe(Math.round((SIZE / BLOCK) * 0.05) * BLOCK)
  const inside = (offset: number): boolean => changes.some((range) => offset >= range.offset && offset < range.offset + range.length)
  const differing = Array.from({ length: SIZE / BLOCK }, (_, block) => block * BLOCK).filter(
    (offset) => !before.subarray(offset, offset + BLOCK).equals(after.subarray(offset, offset + BLOCK)),
  )
  expect(differing.filter((offset) => !inside(offset))).toEqual([])
  expect(differing.length).toBeGreaterThan(10)
})

it('makes an empty disk with a little data', () => {
  const path = join(directory, 'sparse')
  makeSparseImage(path, 4 * 1024 ** 4, 32 * 1024 * 1024)
  expect(statSync(path).size).toBe(4 * 1024 ** 4)
  expect(statSync(path).blocks * 512).toBeLessThan(40 * 1024 * 1024)
})

it('reads sizes', () => {
  expect(parseSize('8G')).toBe(8 * 1024 ** 3)
  expect(parseSize('512m')).toBe(512 * 1024 ** 2)
  expect(() => parseSize('8T')).toThrow('8T is no size')
})

it('measures the CPU and the memory of a child, and takes the middle', async () => {
  const cost = await measure(process.execPath, [
    '-e',
    'const b = Buffer.alloc(150e6, 1); const end = Date.now() + 400; while (Date.now() < end); console.log(b.length)',
  ])
  expect(cost.output.trim()).toBe('150000000')
  expect(cost.cpuSeconds).toBeGreaterThan(0.2)
  expect(cost.wallSeconds).toBeGreaterThan(0.4)
  expect(cost.rssBytes).toBeGreaterThan(150e6)
  await expect(measure(process.execPath, ['-e', 'process.exit(3)'])).rejects.toThrow('ended with 3')
  expect(median([3, 1, 2])).toBe(2)
  expect(median([4, 1, 2, 3])).toBe(2.5)
})
