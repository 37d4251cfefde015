import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { VmRef } from '../core/index.ts'
import { admit, byPriority, byUrgency, type Place, pressedFirst, vmOf, type Waiting } from './admission.ts'

const ref = (name: string): VmRef => ({ moref: name, name, instanceUuid: name, biosUuid: name, vcenterUuid: 'v', path: `/DC/vm/${name}` })
const item = (
  name: string,
  place: Partial<Place> = {},
  due: { priority?: number; deadline?: number; beginBy?: number; dueAt?: number; since?: number } = {},
): Waiting => ({
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
    beginBy: undefined,
    openUntil: undefined,
    ...due,
  },
  place: { vcenter: 'v', host: undefined, datastores: [], apart: [], ...place },
})
const names = (items: readonly Waiting[]): string[] => items.map(({ due }) => due.vm.name)

const MINUTE = 60_000
const HOUR = 60 * MINUTE

describe('who begins first', () => {
  it('is who has priority, then whose RPO is missed first, then who waits longest, then the name', () => {
    const all = [
      item('d', {}, { dueAt: 2 }),
      item('c', {}, { dueAt: 1 }),
      item('b', {}, { deadline: 9, dueAt: 3 }),
      item('e', {}, { dueAt: 2 }),
      item('a', {}, { priority: 1, dueAt: 9 }),
    ]
    expect(names(all.toSorted(byUrgency(9)))).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect(names(all.toSorted(byPriority))).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  it('is who would miss its RPO or has waited for a day, before a higher priority', () => {
    const all = [
      item('gold', {}, { priority: 10 }),
      item('calm', {}, { beginBy: 30 * HOUR }),
      item('near', {}, { beginBy: 24 * HOUR + MINUTE }),
      item('missed', {}, { beginBy: 20 * HOUR }),
      item('old', {}, { since: -HOUR }),
    ]
    const order = (now: number): string[] => names(all.toSorted(byUrgency(now)))
    expect(order(HOUR)).toEqual(['gold', 'calm', 'missed', 'near', 'old'])
    expect(order(23 * HOUR)).toEqual(['missed', 'old', 'gold', 'calm', 'near'])
    // All of them late: lateness counts, and a step of priority weighs a minute of it.
    expect(order(40 * HOUR)).toEqual(['missed', 'near', 'calm', 'old', 'gold'])
  })

  it('lets nobody wait for ever behind those that come again and again', () => {
    // Three of a higher priority are due anew as soon as they have run, and there is one place: without lateness "low" would never begin.
    let waiting = [item('low', {}, { since: 0 }), ...['a', 'b', 'c'].map((name) => item(name, {}, { priority: 100 }))]
    for (let now = 0; now < 48; now++) {
      const [first] = [...waiting].sort(byUrgency(now * HOUR))
      if (first?.due.vm.name === 'low') return expect(now).toBeLessThan(30)
      waiting = waiting.map((each) =>
        each === first ? item(first.due.vm.name, {}, { priority: 100, since: now * HOUR, dueAt: now * HOUR }) : each,
      )
    }
    expect.fail('it never began')
  })

  it('is the same whether all are sorted or the pressed are taken out of who stands in order', () => {
    const due = fc.record({
      priority: fc.integer({ min: -20, max: 20 }),
      since: fc.integer({ min: -30 * HOUR, max: HOUR }),
      beginBy: fc.option(fc.integer({ min: -HOUR, max: 2 * HOUR }), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.array(due, { maxLength: 20 }), (dues) => {
        const all = dues.map(({ beginBy, ...each }, index) =>
          item(`vm${index}`, {}, { ...each, ...(beginBy === undefined ? {} : { beginBy }) }),
        )
        expect(names(pressedFirst(all.toSorted(byPriority), 0))).toEqual(names(all.toSorted(byUrgency(0))))
      }),
      { numRuns: 200, seed: 20_261_127 },
    )
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
        let waiting = places.map((each, index) => item(`vm${index % 20}`, each)).sort(byUrgency(0))
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
