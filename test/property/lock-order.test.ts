import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { AgentError, silentLog, systemClock } from '../../src/core/index.ts'
import type { Backend, FileRef } from '../../src/restic/index.ts'
import type { RepositoryDeps } from '../../src/restic/repository.ts'
import { RepositoryLock } from '../../src/restic/repository-lock.ts'
import { SealedFiles } from '../../src/restic/sealed-files.ts'
import { sealKeyFrom } from '../../src/restic/sealing.ts'
import { hurriedClock } from '../hurried-clock.ts'

/* Two who come for a lock with no pause between saving theirs and looking again, in every order that the steps of both can have. A step is one call of the backend. */

const KEY = sealKeyFrom(randomBytes(64))
/** Until both have come to their second look, nobody has more steps than this; after them the two take turns. */
const STEPS = 12

/** Lets one step after the other go: the first ones in the order given. */
class Turns {
  readonly #order: readonly number[]
  readonly #waiting: ((() => void) | undefined)[] = [undefined, undefined]
  readonly #living = new Set([0, 1])
  #at = 0

  constructor(order: readonly number[]) {
    this.#order = order
  }

  async mine(who: number): Promise<void> {
    if (this.#living.size === 0) return
    await new Promise<void>((resolve) => {
      this.#waiting[who] = resolve
      this.#next()
    })
  }

  left(who: number): void {
    this.#living.delete(who)
    this.#next()
  }

  /** Only when everybody who lives waits is it decided who goes. */
  #next(): void {
    if ([...this.#living].some((who) => this.#waiting[who] === undefined)) return
    const wanted = this.#order[this.#at++] ?? this.#at % 2
    const who = this.#living.has(wanted) ? wanted : 1 - wanted
    const go = this.#waiting[who]
    this.#waiting[who] = undefined
    go?.()
  }
}

class Shared {
  readonly files = new Map<string, Buffer>()
  /** What a listing tells where it lags: the files as they were before the last two changes, which comes first. */
  before: readonly (readonly string[])[] = [[], []]
  readonly #lags: boolean

  constructor(lags: boolean) {
    this.#lags = lags
  }

  seenBy(who: number, turns: Turns): Backend {
    const step = async <T>(work: () => T): Promise<T> => {
      await turns.mine(who)
      return work()
    }
    const change = (work: () => void): Promise<void> =>
      step(() => {
        this.before = [...this.before.slice(1), [...this.files.keys()]]
        work()
      })
    const names = (): readonly string[] => (this.#lags ? (this.before[0] ?? []) : [...this.files.keys()])
    return {
      url: 'memory',
      listsAtOnce: () => Promise.resolve(true),
      load: ({ name }: FileRef) =>
        step(() => {
          const bytes = this.files.get(name)
          if (bytes === undefined) throw new AgentError('NOT_FOUND', `${name} has gone.`)
          return bytes
        }),
      save: ({ name }, data) => change(() => void this.files.set(name, Buffer.from(data))),
      list: async function* () {
        for (const name of await step(names)) yield { name, size: 100 }
      },
      stat: ({ name }) => step(() => (this.files.has(name) ? { size: 100 } : undefined)),
      remove: ({ name }) => change(() => void this.files.delete(name)),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }
  }
}

const deps = (hostname: string): RepositoryDeps => {
  const clock = { ...hurriedClock(10_000), every: systemClock.every.bind(systemClock) }
  return { clock, log: silentLog, random: randomBytes, hostname, username: 'u', pid: 1 }
}

/** How many of the two hold a lock in the end, and how many files there are. */
async function outcome(order: readonly number[], exclusive: readonly [boolean, boolean], lags = false) {
  const turns = new Turns(order)
  const shared = new Shared(lags)
  const takes = exclusive.map(async (only, who) => {
    try {
      return await RepositoryLock.take(new SealedFiles(shared.seenBy(who, turns), KEY, randomBytes), deps(`host ${who}`), {
        exclusive: only,
      })
    } catch (error) {
      if (error instanceof AgentError && error.code === 'CONFLICT') return undefined
      throw error
    } finally {
      turns.left(who)
    }
  })
  const held = (await Promise.all(takes)).filter((lock) => lock !== undefined)
  const files = shared.files.size
  for (const lock of held) await lock[Symbol.asyncDispose]().catch(() => undefined)
  return { held: held.length, files }
}

const orders = Array.from({ length: 2 ** STEPS }, (_, bits) => Array.from({ length: STEPS }, (_each, at) => (bits >> at) & 1))

describe('two locks, with no pause before the second look', () => {
  it.each([
    ['both exclusive', [true, true]],
    ['one exclusive', [true, false]],
  ] as const)(
    'never both, and only the files of who has one, in any order: %s',
    async (_name, exclusive) => {
      const counts = [0, 0]
      for (const order of orders) {
        const { held, files } = await outcome(order, exclusive)
        expect({ order, held, files }).toEqual({ order, held: Math.min(held, 1), files: held })
        counts[held] = (counts[held] ?? 0) + 1
      }
      // One of them has it, but where chance had them meet again and again.
      expect(counts[1]).toBeGreaterThan(orders.length * 0.9)
    },
    120_000,
  )

  it('both, in some order, where a listing lags: there the pause is for', async () => {
    let both = 0
    for (const order of orders.slice(0, 1024)) if ((await outcome(order, [true, true], true)).held === 2) both++
    expect(both).toBeGreaterThan(0)
  }, 120_000)

  it('both at any time when neither is exclusive', async () => {
    for (const order of orders.filter((_, at) => at % 64 === 0)) expect(await outcome(order, [false, false])).toEqual({ held: 2, files: 2 })
  })
})
