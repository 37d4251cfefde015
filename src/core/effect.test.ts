import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { describe, expect, it } from 'vitest'
import { type Effect, EFFECT_AFTER, EFFECT_BEFORE, effect, effectNow, fenceEffects } from './effect.ts'

/** Every effect of `work` in the order told: `before write`, `after write`. Effects of other tests of this thread cannot come between. */
async function told(work: () => Promise<void> | void): Promise<{ readonly order: readonly string[]; readonly effects: readonly Effect[] }> {
  const order: string[] = []
  const effects: Effect[] = []
  const before = (message: unknown): void => {
    effects.push(message as Effect)
    order.push(`before ${(message as Effect).what}`)
  }
  const after = (message: unknown): void => {
    expect(effects).toContain(message)
    order.push(`after ${(message as Effect).what}`)
  }
  subscribe(EFFECT_BEFORE, before)
  subscribe(EFFECT_AFTER, after)
  try {
    await work()
  } finally {
    unsubscribe(EFFECT_BEFORE, before)
    unsubscribe(EFFECT_AFTER, after)
  }
  return { order, effects }
}

const write = (what: string): Effect => ({ kind: 'file', what, on: '/x' })

describe('effect', () => {
  it('is told before the work starts and after it ended, with its result passed on', async () => {
    const steps: string[] = []
    const { order, effects } = await told(async () => {
      const result = await effect(write('write'), async () => {
        steps.push('work')
        return 7
      })
      expect(result).toBe(7)
    })
    expect(order).toEqual(['before write', 'after write'])
    expect(steps).toEqual(['work'])
    expect(effects).toEqual([{ kind: 'file', what: 'write', on: '/x' }])
  })

  it('is told before the work was even called, so that a listener may end the process with nothing done', async () => {
    let done = false
    const stop = (): void => {
      expect(done).toBe(false)
    }
    subscribe(EFFECT_BEFORE, stop)
    try {
      await effect(write('write'), async () => {
        done = true
      })
    } finally {
      unsubscribe(EFFECT_BEFORE, stop)
    }
    expect(done).toBe(true)
  })

  it('is told after on failure too, and passes the error on', async () => {
    const { order } = await told(async () => {
      await expect(effect(write('write'), () => Promise.reject(new Error('no')))).rejects.toThrow('no')
      // Thrown before there is a promise: still a failure of the work.
      const synchronous = (): Promise<void> => {
        throw new Error('at once')
      }
      await expect(effect(write('rename'), synchronous)).rejects.toThrow('at once')
      expect(() =>
        effectNow({ kind: 'row', what: 'claim intended', on: 'db' }, () => {
          throw new Error('not now')
        }),
      ).toThrow('not now')
    })
    expect(order).toEqual(['before write', 'after write', 'before rename', 'after rename', 'before claim intended', 'after claim intended'])
  })

  it('tells effects in the order they start, those under way at once as well', async () => {
    const first = Promise.withResolvers<void>()
    const { order } = await told(async () => {
      const slow = effect(write('slow'), () => first.promise)
      await effect(write('quick'), async () => undefined)
      first.resolve()
      await slow
    })
    expect(order).toEqual(['before slow', 'before quick', 'after quick', 'after slow'])
  })

  it('tells work that is done when it returns, inside the call', async () => {
    const { order } = await told(() => {
      expect(effectNow({ kind: 'row', what: 'claim intended', on: 'db' }, () => 'row')).toBe('row')
    })
    expect(order).toEqual(['before claim intended', 'after claim intended'])
  })

  it('is not begun where a fence refuses it, and is not told', async () => {
    const refused = new Error('fenced')
    let worked = 0
    const { order } = await told(async () => {
      {
        using _fence = fenceEffects(({ what }) => (what === 'write' ? refused : undefined))
        await expect(effect(write('write'), async () => worked++)).rejects.toBe(refused)
        expect(() => effectNow(write('write'), () => worked++)).toThrow(refused)
        await effect(write('end'), async () => worked++)
      }
      await effect(write('write'), async () => worked++)
    })
    expect(worked).toBe(2)
    expect(order).toEqual(['before end', 'after end', 'before write', 'after write'])
  })
})
