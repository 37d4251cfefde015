import { describe, expect, it } from 'vitest'
import { AgentError, type ClaimId, type Clock, silentLog, systemClock } from '../core/index.ts'
import { createReleasePatience } from './release-patience.ts'

/** Time passes only by sleeping. */
function clockAt(): Clock & { readonly slept: number[] } {
  let now = 0
  const slept: number[] = []
  return {
    ...systemClock,
    slept,
    monotonicMs: () => now,
    sleep: async (ms, options) => {
      options?.signal?.throwIfAborted()
      slept.push(ms)
      now += ms
    },
  }
}
const CLAIM = 'c1' as ClaimId
const away = new AgentError('UNAVAILABLE', 'vCenter is away.')

describe('patience with releases', () => {
  it('pauses longer and longer, at most a minute, and uses the time it has to the end', async () => {
    const clock = clockAt()
    const patience = createReleasePatience({ clock, log: silentLog, forMs: 200_000 })
    await expect(patience.run(CLAIM, 'web', undefined, () => Promise.reject(away))).rejects.toBe(away)
    expect(clock.slept).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 17_000])
  })

  it('does not begin anew when a claim that was waited for is released again: one more try, no pause', async () => {
    const clock = clockAt()
    const patience = createReleasePatience({ clock, log: silentLog, forMs: 5000 })
    await expect(patience.run(CLAIM, 'web', undefined, () => Promise.reject(away))).rejects.toBe(away)
    const pauses = clock.slept.length
    let tries = 0
    const again = patience.run(CLAIM, 'web', undefined, () => {
      tries++
      return Promise.reject(away)
    })
    await expect(again).rejects.toBe(away)
    expect([tries, clock.slept.length - pauses]).toEqual([1, 0])
    // Another claim has its own time.
    await expect(patience.run('c2' as ClaimId, 'web', undefined, () => Promise.reject(away))).rejects.toBe(away)
    expect(clock.slept.length).toBe(pauses * 2)
  })

  it('succeeds as soon as it can', async () => {
    const clock = clockAt()
    const patience = createReleasePatience({ clock, log: silentLog, forMs: 60_000 })
    let tries = 0
    expect(await patience.run(CLAIM, 'web', undefined, () => (++tries < 3 ? Promise.reject(away) : Promise.resolve('done')))).toBe('done')
    expect(clock.slept).toEqual([1000, 2000])
  })

  it.each([
    ['AUTH', new AgentError('AUTH', 'no privilege')],
    ['CAPACITY', new AgentError('CAPACITY', 'full')],
    ['CONFIG', new AgentError('CONFIG', 'another vCenter')],
    ['CANCELED', new AgentError('CANCELED', 'enough')],
    ['a CONFLICT that does not pass', new AgentError('CONFLICT', 'no', { retry: 'never' })],
    ['an INTERNAL error', new AgentError('INTERNAL', 'defect')],
  ])('does not wait out %s', async (_name, error) => {
    const clock = clockAt()
    const patience = createReleasePatience({ clock, log: silentLog, forMs: 60_000 })
    await expect(patience.run(CLAIM, 'web', undefined, () => Promise.reject(error))).rejects.toBe(error)
    expect(clock.slept).toEqual([])
  })

  it('ends with the release deadline, and gives the reason, not the deadline', async () => {
    const clock = clockAt()
    const controller = new AbortController()
    const patience = createReleasePatience({ clock, log: silentLog, forMs: 60_000 })
    const work = (): Promise<never> => {
      if (clock.slept.length === 2) controller.abort(new AgentError('CANCELED', 'The deadline is over.'))
      return Promise.reject(away)
    }
    await expect(patience.run(CLAIM, 'web', { signal: controller.signal }, work)).rejects.toBe(away)
    expect(clock.slept).toHaveLength(2)
  })
})
