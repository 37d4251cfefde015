import fc from 'fast-check'
import { expect, it } from 'vitest'
import { matchesPattern } from './name-pattern.ts'

it('matches as the regular expression it stands for', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '-', '.'), maxLength: 12 })
  fc.assert(
    fc.property(text, fc.string({ unit: fc.constantFrom('a', 'b', '-', '.'), maxLength: 12 }), (pattern, name) => {
      const expression = pattern.replaceAll(/[.-]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.')
      expect(matchesPattern(pattern, name)).toBe(new RegExp(`^${expression}$`).test(name))
    }),
    { seed: 4, numRuns: 5000 },
  )
})
