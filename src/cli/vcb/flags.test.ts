import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentError } from '../../core/index.ts'
import { LOGIN_FLAGS, parseToolFlags } from './flags.ts'

const SPEC = { ...LOGIN_FLAGS, s: 'value', y: 'switch', Q: 'switch', M: 'bit', cycleId: 'switch' } as const
const read = (...argv: string[]): object => {
  const { values, rest } = parseToolFlags('vcbX', SPEC, argv)
  return { ...Object.fromEntries(values), rest }
}

describe('flags of the VCB commands', () => {
  it.each([
    [['-h', 'vc', '-s', 'any:'], { h: 'vc', s: 'any:', rest: [] }],
    [['-sAny', '-L0'], { s: 'Any', L: '0', rest: [] }],
    [['-yQ', 'x', '-s', '-7'], { y: '', Q: '', s: '-7', rest: ['x'] }],
    [['-cycleId', '/mnt'], { cycleId: '', rest: ['/mnt'] }],
    [['-M', '0', '-Q'], { M: '0', Q: '', rest: [] }],
    [['-M', '-Q', '-M1', '-s', 'x', '-M'], { M: '1', Q: '', s: 'x', rest: [] }],
    [['-s', 'a', '-s', 'b', '-', '--', '-y'], { s: 'b', rest: ['-', '-y'] }],
  ])('%j', (argv, expected) => {
    expect(read(...argv)).toEqual(expected)
  })

  it.each([['-x'], ['-s'], ['-yx'], ['--json']])('refuses %s', (...argv) => {
    expect(() => read(...argv)).toThrow(expect.objectContaining({ code: 'USAGE' }))
  })

  it('reads any words as flags or USAGE', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: fc.constantFrom('-', 's', 'y', 'c', 'M', '1', 'ü', ' ', 'h'), maxLength: 6 }), { maxLength: 6 }),
        (argv) => {
          try {
            parseToolFlags('vcbX', SPEC, argv)
          } catch (error) {
            expect(isAgentError(error, 'USAGE')).toBe(true)
          }
        },
      ),
      { seed: 9, numRuns: 1000 },
    )
  })
})
