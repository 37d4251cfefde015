import { expect, it } from 'vitest'
import { KnownShare } from './known-share.ts'

const many = (count: number, size: number): number[] => Array.from({ length: count }, () => size)

it('calls few what is new for the most part, and goes with what comes', () => {
  const known = new KnownShare()
  expect(known.few).toBe(true)
  known.count(many(1000, 500))
  expect(known.few).toBe(true)
  for (let turn = 0; turn < 100; turn++) known.count([...many(19, 500), 0])
  expect(known.few).toBe(true)
  known.count(many(10, 0))
  expect(known.few).toBe(false)
  known.count(many(1000, 0))
  known.count(many(100, 500))
  expect(known.few).toBe(true)
})

it('sees one in four as many', () => {
  const known = new KnownShare()
  for (let turn = 0; turn < 100; turn++) known.count([500, 500, 500, 0])
  expect(known.few).toBe(false)
})
