import { describe, expect, test } from 'vitest'
import { AgentError, type Clock } from '../core/index.ts'
import type { ProcessIdentity } from '../journal/index.ts'
import { FakeClock } from '../../test/lab/fake-clock.ts'
import { endsAt, holdLease, type LeaseWatch } from './hold-lease.ts'
import { heapInUse } from '../../test/heap-in-use.ts'

/** Hours pass in no time: a sleep ends at once, at the moment it was to end. */
function quickClock(): Clock & { readonly sleeps: number } {
  let ms = 0
  let sleeps = 0
  return {
    now: () => new Date(Date.UTC(2026, 0, 1) + ms),
    monotonicMs: () => ms,
    sleep: async (forMs, options) => {
      if (options?.signal?.aborted === true) throw options.signal.reason
      ms += forMs
      sleeps++
    },
    every: () => ({ [Symbol.dispose]: () => undefined }),
    get sleeps() {
      return sleeps
    },
  }
}

const HOUR = 3_600_000
const OWNER: ProcessIdentity = { pid: 4711, bootId: 'boot', startTime: 1 }

const watch = (clock: Clock, changed: Partial<LeaseWatch> = {}): LeaseWatch => ({
  clock,
  untilMs: 12 * HOUR,
  owner: undefined,
  isAlive: async () => true,
  idleMs: undefined,
  lastUsedMs: () => undefined,
  isOpen: async () => false,
  signal: undefined,
  broken: undefined,
  lost: async () => undefined,
  ...changed,
})

describe('a lease', () => {
  test('of 24 hours is held to its deadline, and takes no more memory at its end than at its beginning', async () => {
    const clock = quickClock()
    let looks = 0
    const sizes: number[] = []
    const isAlive = async (): Promise<boolean> => {
      if (++looks % 5000 === 0) sizes.push(heapInUse())
      return true
    }
    expect(await holdLease(watch(clock, { untilMs: 24 * HOUR, owner: OWNER, isAlive }))).toMatchObject({ by: 'deadline' })
    expect(clock.monotonicMs()).toBe(24 * HOUR)
    expect(clock.sleeps).toBe(24 * 7200)
    expect(sizes).toHaveLength(34)
    expect(Math.min(...sizes.slice(-10)) - Math.min(...sizes.slice(0, 10))).toBeLessThan(4 * 1024 * 1024)
  })

  test('ends two seconds after its owner, not sooner', async () => {
    const clock = quickClock()
    const end = await holdLease(watch(clock, { owner: OWNER, isAlive: async () => clock.monotonicMs() < HOUR }))
    expect(end).toEqual({ by: 'owner', reason: 'Its owner, process 4711, had ended.' })
    expect(clock.monotonicMs()).toBe(HOUR + 2000)
  })

  test('without an owner ends when nobody has read for long enough and nobody has anything open', async () => {
    const clock = quickClock()
    let asked = 0
    const end = await holdLease(
      watch(clock, {
        idleMs: HOUR / 2,
        // A read every minute for two hours, then none.
        lastUsedMs: () => Math.min(2 * HOUR, Math.floor(clock.monotonicMs() / 60_000) * 60_000),
        isOpen: async () => ++asked === 1,
      }),
    )
    expect(end.by).toBe('idle')
    // Once it was open, so it lived half an hour longer.
    expect([asked, clock.monotonicMs()]).toEqual([2, 3 * HOUR])
  })

  test('with an owner is never idle', async () => {
    const clock = quickClock()
    expect(await holdLease(watch(clock, { owner: OWNER, idleMs: 1000 }))).toMatchObject({ by: 'deadline' })
  })

  test('ends at once when it is asked to, and when what it reads cannot be kept', async () => {
    const asked = AbortSignal.abort(new AgentError('CANCELED', 'The job was canceled by somebody.'))
    expect(await holdLease(watch(quickClock(), { signal: asked }))).toEqual({ by: 'request', reason: 'The job was canceled by somebody.' })
    const full = AbortSignal.abort(new AgentError('CAPACITY', 'The datastore runs full.'))
    expect(await holdLease(watch(quickClock(), { broken: full }))).toEqual({ by: 'broken', reason: 'The datastore runs full.' })
  })

  test('ends when what it shows was taken away, also when it is asked to at the same time', async () => {
    const clock = quickClock()
    const lost = async () => (clock.monotonicMs() < HOUR ? undefined : 'It was unmounted.')
    expect(await holdLease(watch(clock, { lost }))).toEqual({ by: 'lost', reason: 'It was unmounted.' })
    expect(clock.monotonicMs()).toBe(HOUR)
    const asked = AbortSignal.abort(new AgentError('CANCELED', 'Enough.'))
    expect(await holdLease(watch(clock, { lost, signal: asked }))).toMatchObject({ by: 'lost' })
  })

  test('that is asked to end while it sleeps does not sleep on', async () => {
    const controller = new AbortController()
    const clock = quickClock()
    const sleepy: Clock = {
      ...clock,
      sleep: (_ms, options) =>
        new Promise((_resolve, reject) => options?.signal?.addEventListener('abort', () => reject(options.signal?.reason), { once: true })),
    }
    const held = holdLease(watch(sleepy, { signal: controller.signal }))
    controller.abort(new AgentError('CANCELED', 'Enough.'))
    expect(await held).toEqual({ by: 'request', reason: 'Enough.' })
  })
})

describe('the time to get a lease ready', () => {
  const tooLate = new AgentError('CANCELED', 'Too late.')

  test('is over at the moment of its deadline, not sooner', async () => {
    const clock = new FakeClock()
    using inTime = endsAt(clock.monotonicMs() + 1000, clock, tooLate)
    clock.advance(999)
    await Promise.resolve()
    expect(inTime.signal.aborted).toBe(false)
    clock.advance(1)
    await new Promise((resolve) => inTime.signal.addEventListener('abort', resolve, { once: true }))
    expect(inTime.signal.reason).toBe(tooLate)
  })

  test('does not matter once it is ready', async () => {
    const clock = new FakeClock()
    const inTime = endsAt(clock.monotonicMs() + 1000, clock, tooLate)
    inTime[Symbol.dispose]()
    clock.advance(2000)
    await Promise.resolve()
    expect(inTime.signal.aborted).toBe(false)
  })
})
