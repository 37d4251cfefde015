import { expect, test } from 'vitest'
import { readSection } from '../../../test/config-section.ts'
import { spaceKeys, spaceOf } from './space.ts'

const read = (...rest: [text?: string, over?: Parameters<typeof readSection>[3]]) => readSection(spaceKeys, spaceOf, ...rest).space

test('free space is watched unless it is said not to be', () => {
  expect(read()).toEqual({ guard: true, reserve: undefined, intervalMs: 20_000 })
  expect(read('space: { guard: false, reserve: 5%, interval: 1s }')).toEqual({ guard: false, reserve: { percent: 5 }, intervalMs: 1000 })
  expect(read('', { flags: { spaceGuard: false } }).guard).toBe(false)
  expect(read('space: { reserve: 5% }', { flags: { spaceReserve: '1GiB' } }).reserve).toEqual({ bytes: 2 ** 30 })
  expect(() => read('', { environment: { VCB_SPACE_RESERVE: 'much' } })).toThrow('The value of --space-reserve is wrong')
})
