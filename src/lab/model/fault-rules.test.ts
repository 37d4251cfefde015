import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FaultRules, globMatches } from './fault-rules.ts'
import { createSeeded } from './seeded.ts'

const rules = (seed = 1): FaultRules => {
  const seeded = createSeeded(seed)
  return new FaultRules([], () => seeded.next())
}

describe('fault rules', () => {
  test('strike at the n-th match only, and so often as they may', () => {
    const nth = rules()
    nth.add({ on: 'A', nth: 2, fault: 'X' })
    expect([1, 2, 3].map(() => nth.strike({ on: 'A', names: [] }, 'fault').length)).toEqual([0, 1, 0])
    const times = rules()
    const id = times.add({ on: 'A', times: 2, fault: 'X' })
    expect([1, 2, 3].map(() => times.strike({ on: 'A', names: [] }, 'fault').length)).toEqual([1, 1, 0])
    expect(times.list()).toMatchObject([{ id, seen: 3, struck: 2 }])
  })

  test('match method, object and endpoint, and count nothing else', () => {
    const all = rules()
    all.add({ on: 'Create*', object: 'web*', endpoint: 'esxi', fault: 'X' })
    const ask = (on: string, name: string, endpoint: 'esxi' | 'vcenter') => all.strike({ on, names: [name], endpoint }, 'fault').length
    expect(ask('CreateSnapshot_Task', 'web01', 'esxi')).toBe(1)
    expect(ask('RemoveSnapshot_Task', 'web01', 'esxi')).toBe(0)
    expect(ask('CreateSnapshot_Task', 'db01', 'esxi')).toBe(0)
    expect(ask('CreateSnapshot_Task', 'web01', 'vcenter')).toBe(0)
    expect(all.strike({ on: 'CreateSnapshot_Task', names: ['web01'], endpoint: 'esxi' }, 'taskError')).toEqual([])
    expect(all.list()[0]).toMatchObject({ seen: 1, struck: 1 })
  })

  test('strike by chance as often as the probability says, the same way for the same seed', () => {
    const draw = (seed: number): number[] => {
      const some = rules(seed)
      some.add({ probability: 0.25, lockHeld: true })
      return Array.from({ length: 2000 }, () => some.strike({ names: [] }, 'lockHeld').length)
    }
    const first = draw(7)
    expect(draw(7)).toEqual(first)
    const struck = first.reduce((sum, each) => sum + each, 0)
    expect(struck).toBeGreaterThan(400)
    expect(struck).toBeLessThan(600)
  })

  test('are cleared one by one and all together', () => {
    const some = rules()
    const id = some.add({ lockHeld: true })
    some.add({ quiesce: 'silent' })
    expect(some.clear('fault-99')).toBe(false)
    expect(some.clear(id)).toBe(true)
    expect(some.list()).toHaveLength(1)
    expect(some.clear()).toBe(true)
    expect(some.list()).toEqual([])
  })

  test('a glob matches what the same regular expression matches', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '.', '*'), maxLength: 8 })
    fc.assert(
      fc.property(text, fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 }), (pattern, subject) => {
        const expression = pattern
          .split('*')
          .map((part) => part.replaceAll('.', String.raw`\.`))
          .join('.*')
        expect(globMatches(pattern, subject)).toBe(new RegExp(`^${expression}$`).test(subject))
      }),
      { numRuns: 2000, seed: 42 },
    )
  })
})
