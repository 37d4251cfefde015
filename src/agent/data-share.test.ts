import { expect, it } from 'vitest'
import { parseDataShare } from './data-share.ts'

it('cuts the data into shares that are all of it together, and none of it twice', () => {
  for (const parts of [1, 7, 28, 256]) {
    const shares = Array.from({ length: parts }, (_, part) => parseDataShare(`${part + 1}/${parts}`, Math.random))
    expect(shares.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: 256 }, (_, slice) => slice))
    const sizes = shares.map((share) => share.length)
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
  }
})

it('takes a percentage by chance, rounded up', () => {
  let seed = 1
  const random = (): number => (seed = (seed * 16807) % 2147483647) / 2147483647
  const share = parseDataShare('2.5%', random)
  expect(new Set(share).size).toBe(7)
  expect(parseDataShare('2.5%', random)).not.toEqual(share)
  expect(new Set(parseDataShare('100%', random)).size).toBe(256)
})

it.each(['', '0/5', '6/5', '1/257', '0%', '101%', '5', '-1/4', '1/0', '%', '1e1%'])('refuses %j', (text) => {
  expect(() => parseDataShare(text, Math.random)).toThrow(expect.objectContaining({ code: 'USAGE' }))
})
