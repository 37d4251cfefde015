import { describe, expect, test } from 'vitest'
import { describeStep, LANES, schedule } from './schedule.ts'

const RATES = { kills: 0.8, labKills: 0.2 }

const first = (count: number, seed: number, lane: number, rates = RATES): readonly string[] => {
  const steps = schedule(seed, lane, rates)
  return Array.from({ length: count }, () => describeStep(steps.next().value))
}

describe('the schedule of a storm', () => {
  test('is the same for the same seed', () => {
    expect(first(300, 7, 0)).toEqual(first(300, 7, 0))
  })

  test('differs between seeds and between lanes', () => {
    expect(first(20, 7, 0)).not.toEqual(first(20, 8, 0))
    expect(first(20, 7, 0).map((step) => step.slice(1))).not.toEqual(first(20, 7, 1).map((step) => step.slice(1)))
  })

  test('draws the same commands and moments however many are to be killed', () => {
    const bare = (steps: readonly string[]): readonly string[] => steps.map((step) => step.split(';')[0] ?? '')
    expect(bare(first(200, 3, 1, { kills: 0, labKills: 0 }))).toEqual(bare(first(200, 3, 1)))
  })

  test('has every kind of command, every VM and every level of quiescing', () => {
    const steps = LANES.flatMap((_vms, lane) => first(300, 1, lane)).join('\n')
    for (const word of ['backup', 'full', 'https', 'to-directory', 'lease', 'folder', 'replace', 'forget', 'recover', 'points', 'check'])
      expect(steps).toContain(` ${word} `)
    for (const vm of LANES.flat()) expect(steps).toContain(vm)
    for (const policy of ['require', 'try', 'none']) expect(steps).toContain(` ${policy}`)
    expect(steps).toMatch(/kill before \d+ \+0 ms/)
    expect(steps).toMatch(/kill after \d+ \+[1-9]\d* ms/)
    expect(steps).toMatch(/kill \d+ ms from the start/)
    expect(steps).toMatch(/lab (?:before|after) \d+ /)
  })
})
