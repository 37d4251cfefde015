import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { DiskFacts, DiskRef } from '../core/index.ts'
import { changeBase } from './change-base.ts'

const UUID = '52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63'
const before: DiskFacts = {
  key: 2000,
  capacityBytes: 1 << 30,
  fileName: '[ds] web/web.vmdk',
  uuid: '6000C29a-1',
  changeId: `${UUID}/81`,
} as DiskFacts
const now: DiskRef = {
  key: 2000,
  capacityBytes: 1 << 30,
  fileName: '[ds] web/web.vmdk',
  uuid: '6000C29a-1',
  changeId: `${UUID}/90`,
} as DiskRef

describe('changeBase', () => {
  it('uses the stored id of the same disk in the same generation', () => {
    expect(changeBase(before, now)).toEqual({ use: true, changeId: `${UUID}/81`, reason: 'changed since the last point' })
    expect(changeBase(before, { ...now, changeId: `${UUID}/81` }).use).toBe(true)
    expect(changeBase(before, { ...now, fileName: '[ds] web/web-000012.vmdk' }).use).toBe(true)
    expect(changeBase({ ...before, fileName: '[ds] web/web-000003.vmdk' }, now).use).toBe(true)
    expect(changeBase({ ...before, uuid: undefined }, now).use).toBe(true)
    expect(changeBase(before, { ...now, uuid: '6000c29a1' }).use).toBe(true)
  })

  it.each([
    [undefined, now, /does not hold this disk/],
    [{ ...before, changeId: undefined }, now, /stored no change id/],
    [before, { ...now, changeId: undefined }, /gives no change id/],
    [before, { ...now, key: 2001 }, /device key 2000/],
    [before, { ...now, capacityBytes: 2 ** 31 }, /capacity changed from 1\.0 GiB to 2\.0 GiB/],
    [before, { ...now, uuid: '6000C29b-2' }, /another disk/],
    [before, { ...now, fileName: '[ds2] web/web.vmdk' }, /moved/],
    [before, { ...now, fileName: '[ds] web/other.vmdk' }, /moved/],
    [before, { ...now, changeId: `00${UUID.slice(2)}/90` }, /reset/],
    [before, { ...now, changeId: `${UUID}/80` }, /reverted/],
    [{ ...before, changeId: '*' }, now, /unknown shape/],
    [before, { ...now, changeId: 'rubbish' }, /unknown shape/],
  ])('does not use it when in doubt (%#)', (previous, current, reason) => {
    expect(changeBase(previous, current)).toEqual({ use: false, reason: expect.stringMatching(reason) })
  })

  it('never uses an id of another generation, and never throws', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), fc.string({ maxLength: 60 }), (a, b) => {
        const verdict = changeBase({ ...before, changeId: a }, { ...now, changeId: b })
        if (!verdict.use) return
        expect(verdict.changeId).toBe(a)
        const generation = (id: string): string => id.slice(0, id.lastIndexOf('/')).replaceAll(/[\s-]/g, '').toLowerCase()
        expect(generation(a)).toBe(generation(b))
      }),
      { seed: 17, numRuns: 2000 },
    )
  })
})
