import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { VmRef } from '../core/index.ts'
import { admit, byUrgency, type Place, vmOf, type Waiting } from './admission.ts'

const ref = (name: string): VmRef => ({ moref: name, name, instanceUuid: name, biosUuid: name, vcenterUuid: 'v', path: `/DC/vm/${name}` })
const item = (name: string, place: Partial<Place> = {}, due: { priority?: number; deadline?: number; dueAt?: number } = {}): Waiting => ({
  due: {
    job: 'nightly',
    vm: ref(name),
    mode: 'incremental',
    priority: 0,
    dueAt: 0,
    since: 0,
    attempt: 1,
    reason: '',
    deadline: undefined,
    openUntil: undefined,
    ...due,
  },
  place: { vcenter: 'v', host: undefined, datastores: [], apart: [], ...place },
})
const names = (items: readonly Waiting[]): string[] => items.map(({ due }) => due.vm.name)

describe('who begins first', () => {
  it('is who has priority, then whose RPO is missed first, then who waits longest, then the name', () => {
    const all = [
      item('d', {}, { dueAt: 2 }),
      item('c', {}, { dueAt: 1 }),
      item('b', {}, { deadline: 9, dueAt: 3 }),
      item('e', {}, { dueAt: 2 }),
      item('a', {}, { priority: 1, dueAt: 9 }),
    ]
    expect(names(all.toSorted(byUrgency))).toEqual(['a', 'b', 'c', 'd', 'e'])
  })
})

describe('what may begin', () => {
  it('fills the proxy, host and datastore, and no more', () => {
    const waiting = ['a', 'b', 'c', 'd'].map((name, index) => item(name, { host: index < 3 ? 'h1' : 'h2', datastores: ['ds'] }))
    expect(names(admit(waiting, [], { proxy: 2 }))).toEqual(['a', 'b'])
    expect(names(admit(waiting, [], { proxy: 9, host: 2 }))).toEqual(['a', 'b', 'd'])
    expect(names(admit(waiting, [item('x', { datastores: ['ds'] })], { proxy: 9, datastore: 2 }))).toEqual(['a'])
    expect(names(admit(waiting, [item('x')], { proxy: 9, vcenter: 3 }))).toEqual(['a', 'b'])
    expect(admit(waiting, [item('x'), item('y')], { proxy: 2 })).toEqual([])
  })

  it('never is a VM that runs, nor two of a group that are to be apart', () => {
    expect(admit([item('a')], [item('a')], { proxy: 9 })).toEqual([])
    const nodes = ['sql1', 'sql2', 'web'].map((name) => item(name, { apart: name === 'web' ? [] : ['sql'] }))
    expect(names(admit(nodes, [], { proxy: 9 }))).toEqual(['sql1', 'web'])
  })

  it('keeps the places of who does not fit, so that it is not passed by for ever', () => {
    const wide = item('wide', { datastores: ['d1', 'd2'] }, { priority: 1 })
    const narrow = item('narrow', { datastores: ['d2'] })
    const elsewhere = item('elsewhere', { datastores: ['d3'] })
    const busy = item('busy', { datastores: ['d1'] })
    expect(names(admit([wide, narrow, elsewhere], [busy], { proxy: 9, datastore: 1 }))).toEqual(['elsewhere'])
  })

  it('never exceeds a limit, whatever waits and runs', () => {
    const place = fc.record({
      vcenter: fc.constantFrom('v1', 'v2'),
      host: fc.constantFrom(undefined, 'h1', 'h2'),
      datastores: fc.subarray(['d1', 'd2', 'd3']),
      apart: fc.subarray(['g1', 'g2']),
    })
    const one = (max: number) => fc.integer({ min: 1, max })
    const room = fc.record({ proxy: fc.integer({ min: 1, max: 6 }), vcenter: one(4), host: one(3), datastore: one(3) })
    fc.assert(
      fc.property(fc.array(place, { maxLength: 30 }), room, (places, limits) => {
        let waiting = places.map((each, index) => item(`vm${index % 20}`, each)).sort(byUrgency)
        let running: Waiting[] = []
        for (let round = 0; round < 40; round++) {
          const begun = admit(waiting, running, limits)
          waiting = waiting.filter((each) => !begun.includes(each))
          running = [...running, ...begun]
          expect(running.length).toBeLessThanOrEqual(limits.proxy)
          const count = (of: (each: Waiting) => readonly string[]): number =>
            Math.max(
              0,
              ...Map.groupBy(running.flatMap(of), (name) => name)
                .values()
                .map((same) => same.length),
            )
          expect(count(({ due }) => [vmOf(due)])).toBeLessThanOrEqual(1)
          expect(count((each) => each.place.apart)).toBeLessThanOrEqual(1)
          expect(count((each) => [each.place.vcenter])).toBeLessThanOrEqual(limits.vcenter)
          expect(count((each) => (each.place.host === undefined ? [] : [each.place.host]))).toBeLessThanOrEqual(limits.host)
          expect(count((each) => each.place.datastores)).toBeLessThanOrEqual(limits.datastore)
          running = running.slice(1)
        }
        expect(waiting).toEqual([])
      }),
      { numRuns: 200, seed: 20_261_126 },
    )
  })
})
