import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, systemClock } from '../../src/core/index.ts'
import type { Buckets, BucketUse, Token } from '../../src/transport/index.ts'

/** Processes that count together; the same object twice where there is one. */
export type BucketsWorld = AsyncDisposable & { readonly processes: readonly [Buckets, Buckets] }

/** What every place promises where limited things are counted. `numRuns`: of the property, by what a token costs there. */
export function bucketsContract(name: string, open: () => Promise<BucketsWorld>, { numRuns }: { readonly numRuns: number }): void {
  const gone = async (token: Token | undefined): Promise<void> => token?.[Symbol.asyncDispose]()
  const count = (uses: readonly BucketUse[], waits: boolean): number =>
    uses.flatMap((each) => each.uses).filter((use) => use.waits === waits).length
  /** Waits until something is so, a few seconds at most. */
  const until = async (so: () => boolean | Promise<boolean>): Promise<void> => {
    for (let turn = 0; turn < 600; turn++) {
      if (await so()) return
      await systemClock.sleep(turn < 20 ? 0 : 10)
    }
    throw new Error('it did not come to be')
  }

  describe(`limits that are counted in ${name}`, () => {
    it('are given out in the order asked for, over all processes, and back once each', async () => {
      await using world = await open()
      const [one, other] = world.processes.map((buckets) => buckets.tokens('k', 'sessions', 2))
      if (one === undefined || other === undefined) throw new Error('no tokens')
      const [first, second] = [await one.take({ holder: 'web' }), await other.take({ holder: 'db' })]
      expect([first.waited, second.waited]).toEqual([false, false])
      const order: number[] = []
      const told: string[] = []
      let over = 0
      const waiting: Promise<Token>[] = []
      for (const [index, tokens] of [other, one].entries()) {
        const onWait = (wait: string): Disposable => (told.push(wait), { [Symbol.dispose]: () => void over++ })
        waiting.push(tokens.take({ holder: `waits ${index}`, onWait }).then((token) => (order.push(index), token)))
        await until(async () => count(await world.processes[0].inUse(), true) === index + 1)
      }
      await until(() => told.length === 2)
      expect(told).toEqual([
        'waits for one of the sessions: 2 of 2 in use by web, db',
        'waits for one of the sessions: 2 of 2 in use by web, db',
      ])
      expect((await world.processes[1].inUse()).map(({ uses }) => uses.map(({ holder, waits }) => [holder, waits]))).toEqual([
        [
          ['web', false],
          ['db', false],
          ['waits 0', true],
          ['waits 1', true],
        ],
      ])
      await gone(first)
      await gone(first)
      const third = await waiting[0]
      expect([order, over, third?.waited, count(await world.processes[0].inUse(), true)]).toEqual([[0], 1, true, 1])
      await gone(second)
      const fourth = await waiting[1]
      await gone(third)
      await gone(fourth)
      expect([order, over, await world.processes[0].inUse()]).toEqual([[0, 1], 2, []])
    })

    it('are not waited for where that is not wanted, nor are those passed who wait', async () => {
      await using world = await open()
      const [one, other] = world.processes.map((buckets) => buckets.tokens('k', 'sessions', 1))
      const first = await one?.tryTake()
      expect(await other?.tryTake()).toBeUndefined()
      const waiting = other?.take()
      await until(async () => count(await world.processes[0].inUse(), true) === 1)
      await gone(first)
      expect(await one?.tryTake()).toBeUndefined()
      await gone(await waiting)
      const third = await one?.tryTake()
      expect([third?.waited, count(await world.processes[1].inUse(), false)]).toEqual([false, 1])
      await gone(third)
    })

    it('of another key are another’s', async () => {
      await using world = await open()
      const [one, other] = [world.processes[0].tokens('a', 'things of a', 1), world.processes[1].tokens('b', 'things of b', 1)]
      const both = [await one.take(), await other.take()]
      expect((await world.processes[0].inUse()).map((each) => [each.name, each.limit])).toEqual([
        ['things of a', 1],
        ['things of b', 1],
      ])
      for (const token of both) await gone(token)
    })

    it('whose wait is canceled takes none', async () => {
      await using world = await open()
      const [one, other] = world.processes.map((buckets) => buckets.tokens('k', 'sessions', 1))
      const first = await one?.take()
      const cancel = new AbortController()
      const waiting = other?.take({ signal: cancel.signal })
      await until(async () => count(await world.processes[0].inUse(), true) === 1)
      cancel.abort(new AgentError('CANCELED', 'enough'))
      await expect(waiting).rejects.toMatchObject({ code: 'CANCELED' })
      expect(count(await world.processes[0].inUse(), true)).toBe(0)
      await gone(first)
      expect(await world.processes[0].inUse()).toEqual([])
    })

    it('are never more than there are, none lost, nobody overtaken, whatever happens in whatever order', { timeout: 60_000 }, async () => {
      const step = fc.record({ what: fc.constantFrom('take', 'give', 'cancel'), index: fc.nat(20), process: fc.nat(1) })
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(step, { maxLength: 40 }), async (limit, steps) => {
          await using world = await open()
          const tokens = world.processes.map((buckets) => buckets.tokens('k', 'things', limit))
          const held: Token[] = []
          const got: number[] = []
          const asked: { readonly abort: AbortController; state: 'waits' | 'has' | 'gone' }[] = []
          const settled = async (): Promise<void> => {
            const waits = (): number => asked.filter(({ state }) => state === 'waits').length
            await until(() => waits() === 0 || held.length === limit)
            await until(async () => count(await world.processes[0].inUse(), true) === waits())
            expect(held.length).toBeLessThanOrEqual(limit)
            expect(count(await world.processes[1].inUse(), false)).toBe(held.length)
          }
          for (const { what, index, process } of steps) {
            if (what === 'take') {
              const id = asked.length
              const entry = { abort: new AbortController(), state: 'waits' as 'waits' | 'has' | 'gone' }
              asked.push(entry)
              void (async () => {
                try {
                  const token = await tokens[process]?.take({ signal: entry.abort.signal })
                  if (token !== undefined) held.push(token)
                  entry.state = 'has'
                  got.push(id)
                } catch {
                  entry.state = 'gone'
                }
              })()
            } else if (what === 'give') await gone(held.splice(index % Math.max(1, held.length), 1)[0])
            else asked[index % Math.max(1, asked.length)]?.abort.abort(new AgentError('CANCELED', 'gone'))
            await settled()
          }
          expect(got).toEqual(got.toSorted((a, b) => a - b))
          while (held.length > 0) {
            await gone(held.shift())
            await settled()
          }
          expect(await world.processes[0].inUse()).toEqual([])
        }),
        { seed: 7, numRuns },
      )
    })
  })
}
