import { describe, expect, it } from 'vitest'
import { AgentError } from '../core/index.ts'
import { sideBySide } from './side-by-side.ts'

describe('sideBySide', () => {
  it.each([1, 2, 5])('works at %d at a time and gives the results in order', async (most) => {
    let now = 0
    let peak = 0
    const results = await sideBySide([5, 1, 4, 2, 3], most, async (item) => {
      peak = Math.max(peak, ++now)
      for (let turn = 0; turn < item; turn++) await Promise.resolve()
      now--
      return item * 10
    })
    expect([results, peak]).toEqual([[50, 10, 40, 20, 30], most])
  })

  it('a failure aborts the others, which are waited for, and begins no more', async () => {
    const begun: number[] = []
    const ended: number[] = []
    const first = new AgentError('UNAVAILABLE', 'first')
    const work = sideBySide([0, 1, 2, 3], 2, async (item, signal) => {
      begun.push(item)
      if (item === 0) throw first
      await new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }))
      ended.push(item)
      throw new AgentError('CANCELED', 'second')
    })
    await expect(work).rejects.toBe(first)
    expect([begun, ended]).toEqual([[0, 1], [1]])
  })
})
