import { expect, it } from 'vitest'
import { parseMostRepacked, parseMostUnused, pruneRuleOf, repositoryPrune } from './prune.ts'

const ruleOf = (text: unknown): unknown => pruneRuleOf(repositoryPrune.parse(text))
const WEEK = 7 * 86_400_000

it('is once a week with a share unused and a limit for what is written, where nothing is said', () => {
  const usual = { everyMs: WEEK, mostUnused: { percent: 5 }, mostRepackedBytes: 50 * 2 ** 30 }
  expect(pruneRuleOf(undefined)).toEqual(usual)
  expect(ruleOf({})).toEqual(usual)
  expect(ruleOf({ maxUnused: '10GiB' })).toEqual({ ...usual, mostUnused: { bytes: 10 * 2 ** 30 } })
  expect(ruleOf({ every: '1d', maxUnused: 'unlimited', maxRepackSize: '1TiB' })).toEqual({
    everyMs: 86_400_000,
    mostUnused: 'unlimited',
    mostRepackedBytes: 2 ** 40,
  })
  expect(ruleOf('off')).toBeUndefined()
})

it.each([
  { every: '1m' },
  { every: 'now' },
  { maxUnused: 'much' },
  { maxUnused: '95%' },
  { maxRepackSize: '5%' },
  { often: true },
  'on',
  7,
])('refuses %j', (text) => {
  expect(repositoryPrune.safeParse(text).success).toBe(false)
})

it('reads the flags of the command', () => {
  expect(parseMostUnused('--max-unused', '0')).toEqual({ bytes: 0 })
  expect(parseMostUnused('--max-unused', '2.5%')).toEqual({ percent: 2.5 })
  expect(parseMostRepacked('--max-repack-size', '100GiB')).toBe(100 * 2 ** 30)
  expect(() => parseMostUnused('--max-unused', 'some')).toThrow(/--max-unused/u)
  expect(() => parseMostRepacked('--max-repack-size', '5%')).toThrow(/--max-repack-size/u)
})
