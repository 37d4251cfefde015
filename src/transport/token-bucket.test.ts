import { describe, expect, it } from 'vitest'
import { AgentError } from '../core/index.ts'
import { createTokens } from './token-bucket.ts'

describe('a limit', () => {
  it('gives tokens out in the order asked for, and back once each', async () => {
    const tokens = createTokens('sessions', 2)
    const [one, two] = [await tokens.take(), await tokens.take()]
    const order: number[] = []
    const waiting = [1, 2].map(async (number) => {
      const token = await tokens.take()
      order.push(number)
      return token
    })
    await Promise.resolve()
    expect([tokens.inUse, tokens.waiting]).toEqual([2, 2])
    one[Symbol.dispose]()
    one[Symbol.dispose]()
    const third = await waiting[0]
    expect([order, tokens.inUse, tokens.waiting]).toEqual([[1], 2, 1])
    two[Symbol.dispose]()
    const fourth = await waiting[1]
    third?.[Symbol.dispose]()
    fourth?.[Symbol.dispose]()
    expect([order, tokens.inUse, tokens.waiting]).toEqual([[1, 2], 0, 0])
  })

  it('does not wait where it is told not to, nor passes those who do', async () => {
    const tokens = createTokens('sessions', 1)
    const first = tokens.tryTake()
    expect(tokens.tryTake()).toBeUndefined()
    const waiting = tokens.take()
    first?.[Symbol.dispose]()
    expect(tokens.tryTake()).toBeUndefined()
    const second = await waiting
    second[Symbol.dispose]()
    using third = tokens.tryTake()
    expect([third === undefined, tokens.inUse]).toEqual([false, 1])
  })

  it('a canceled wait takes none', async () => {
    const tokens = createTokens('sessions', 1)
    const first = await tokens.take()
    const cancel = new AbortController()
    const waiting = tokens.take({ signal: cancel.signal })
    cancel.abort(new AgentError('CANCELED', 'enough'))
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELED' })
    first[Symbol.dispose]()
    expect([tokens.inUse, tokens.waiting]).toEqual([0, 0])
  })
})
