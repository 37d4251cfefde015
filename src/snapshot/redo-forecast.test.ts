import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { GIB, MIB, type PointSummary } from '../core/index.ts'
import { changeRate, type ExpectedRun, fillRate, forecastGrowth, reserveOf, runDurationMs } from './redo-forecast.ts'

const point = (time: string, mode: 'full' | 'incremental', readBytes: number): PointSummary => ({ time, mode, readBytes }) as PointSummary
const run = (more: Partial<ExpectedRun> = {}): ExpectedRun => ({ bytes: 0, changedPerHour: undefined, readPerSecond: undefined, ...more })
const disk = (datastore: string, gib: number) => ({ datastore, capacityBytes: gib * GIB, thin: false })
const sum = (growth: ReadonlyMap<string, number>): number => [...growth.values()].reduce((total, bytes) => total + bytes, 0)

describe('the change rate of a VM', () => {
  it('is the highest of its incrementals, over the time since the point before each', () => {
    const points = [
      point('2026-11-20T00:00:00Z', 'full', 100 * GIB),
      point('2026-11-21T00:00:00Z', 'incremental', 24 * GIB),
      point('2026-11-22T00:00:00+00:00', 'incremental', 12 * GIB),
      point('2026-11-22T07:00:00+01:00', 'incremental', 12 * GIB),
    ]
    expect(changeRate(points)).toBe(2 * GIB)
    expect(changeRate(points.toReversed())).toBe(2 * GIB)
  })

  it('is unknown without incrementals, or with points too close to tell', () => {
    expect(changeRate([])).toBeUndefined()
    expect(changeRate([point('2026-11-20T00:00:00Z', 'full', GIB), point('2026-11-21T00:00:00Z', 'full', GIB)])).toBeUndefined()
    expect(changeRate([point('2026-11-20T00:00:00Z', 'full', GIB), point('2026-11-20T00:05:00Z', 'incremental', GIB)])).toBeUndefined()
  })
})

describe('the forecast of redo logs', () => {
  it('is the rate over the duration, doubled, with the log’s own tables', () => {
    // 360 GiB at 100 MiB/s: 3686.4 s of reading and two minutes around it.
    const expected = run({ bytes: 360 * GIB, changedPerHour: 10 * GIB, readPerSecond: 100 * MIB })
    expect(runDurationMs(expected)).toBeCloseTo(3_806_400)
    const growth = forecastGrowth([disk('a', 1000)], expected)
    expect(growth.get('a')).toBeCloseTo(16 * MIB + 20 * GIB * (3806.4 / 3600) * 1.01, -3)
  })

  it('guesses two per cent a day for a guest that was never measured', () => {
    const day = run({ bytes: 86_280 * 100 * MIB })
    expect(forecastGrowth([disk('a', 100)], day).get('a')).toBeCloseTo(16 * MIB + 2 * GIB * 1.01, -3)
  })

  it('shares the growth among datastores by the size of the disks', () => {
    const growth = forecastGrowth([disk('a', 300), disk('b', 50), disk('b', 50)], run({ changedPerHour: 40 * GIB }))
    expect(((growth.get('a') ?? 0) - 16 * MIB) / ((growth.get('b') ?? 0) - 32 * MIB)).toBeCloseTo(3)
    expect(forecastGrowth([], run())).toEqual(new Map())
  })

  const gib = fc.integer({ min: 0, max: 64 * 1024 })
  const anyDisk = fc.record({
    datastore: fc.constantFrom('a', 'b', 'c'),
    capacityBytes: gib.map((count) => count * GIB),
    thin: fc.boolean(),
  })
  const anyRun = fc.record({
    bytes: gib.map((count) => count * GIB),
    changedPerHour: fc.option(
      gib.map((count) => count * GIB),
      { nil: undefined },
    ),
    readPerSecond: fc.option(
      fc.integer({ min: 1, max: 10_000 }).map((count) => count * MIB),
      { nil: undefined },
    ),
  })

  it('never exceeds what the disks can hold, never is less than the logs’ headers, and names the disks’ datastores alone', () => {
    fc.assert(
      fc.property(fc.array(anyDisk, { maxLength: 8 }), anyRun, (disks, expected) => {
        const growth = forecastGrowth(disks, expected)
        expect([...growth.keys()].sort()).toEqual([...new Set(disks.map(({ datastore }) => datastore))].sort())
        for (const [name, bytes] of growth) {
          const own = disks.filter(({ datastore }) => datastore === name)
          const capacity = own.reduce((total, { capacityBytes }) => total + capacityBytes, 0)
          expect(bytes).toBeGreaterThanOrEqual(own.length * 16 * MIB)
          expect(bytes).toBeLessThanOrEqual(Math.ceil(capacity * 1.01) + own.length * (16 * MIB + 1))
        }
      }),
      { seed: 1 },
    )
  })

  it('grows with the rate, with what is to be read and with a slower transport', () => {
    fc.assert(
      fc.property(fc.array(anyDisk, { maxLength: 4 }), anyRun, gib, (disks, expected, more) => {
        const base = sum(forecastGrowth(disks, expected))
        expect(sum(forecastGrowth(disks, { ...expected, bytes: expected.bytes + more * GIB }))).toBeGreaterThanOrEqual(base)
        const { changedPerHour, readPerSecond } = expected
        if (changedPerHour !== undefined)
          expect(sum(forecastGrowth(disks, { ...expected, changedPerHour: changedPerHour + more * GIB }))).toBeGreaterThanOrEqual(base)
        if (readPerSecond !== undefined)
          expect(sum(forecastGrowth(disks, { ...expected, readPerSecond: readPerSecond / 2 }))).toBeGreaterThanOrEqual(base)
      }),
      { seed: 2 },
    )
  })
})

describe('what must stay free', () => {
  it('is what was configured, else 5 GiB or 5 %, whichever is less', () => {
    expect(reserveOf({ capacityBytes: 1000 * GIB }, undefined)).toBe(5 * GIB)
    expect(reserveOf({ capacityBytes: 20 * GIB }, undefined)).toBe(GIB)
    expect(reserveOf({ capacityBytes: 20 * GIB }, { percent: 10 })).toBe(2 * GIB)
    expect(reserveOf({ capacityBytes: 20 * GIB }, { bytes: 0 })).toBe(0)
  })
})

describe('how fast a datastore fills', () => {
  it('is the steeper of the last step and the whole', () => {
    const samples = (...free: readonly number[]) => free.map((freeBytes, index) => ({ atMs: index * 1000, freeBytes }))
    expect(fillRate(samples(9000, 8000, 7000))).toBe(1)
    expect(fillRate(samples(9000, 9000, 7000))).toBe(2)
    expect(fillRate(samples(9000, 5000, 5000))).toBe(2)
    expect(fillRate(samples(5000, 9000))).toBe(0)
    expect(fillRate(samples(5000))).toBe(0)
    expect(fillRate([])).toBe(0)
    expect(
      fillRate([
        { atMs: 5, freeBytes: 9 },
        { atMs: 5, freeBytes: 1 },
      ]),
    ).toBe(0)
  })
})
