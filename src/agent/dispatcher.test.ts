import { expect, test } from 'vitest'
import { createIds, silentLog, systemClock, type VmRef } from '../core/index.ts'
import type { Agent } from './agent.ts'
import { Dispatcher } from './dispatcher.ts'

const ref = (name: string): VmRef => ({ moref: name, name, instanceUuid: name, biosUuid: name, vcenterUuid: 'vc', path: `/DC/vm/${name}` })
const place = { vcenter: 'vc', host: undefined, datastores: [], apart: [] }

test('told to stop, it waits for each of the runs under way and leaves the process its turn', async () => {
  /** Each run stands before the lock of its VM until the test lets it end. */
  const ends = new Map<string, PromiseWithResolvers<undefined>>()
  const refusal = ({ name }: VmRef): Promise<undefined> => {
    const end = Promise.withResolvers<undefined>()
    ends.set(name, end)
    return end.promise
  }
  const config = { jobs: [], repositories: [], parallel: 4, limits: {} }
  const parts = { config, clock: systemClock, ids: createIds(), log: silentLog, locks: { refusal } }
  const dispatcher = new Dispatcher({ agent: parts as unknown as Agent })
  const stop = new AbortController()
  dispatcher.ask(
    ['a', 'b', 'c'].map((name) => ({ vm: ref(name), place })),
    { job: undefined, mode: undefined, by: 'a test' },
  )
  const work = dispatcher.run({ stop: stop.signal })
  await systemClock.sleep(20)
  expect([...ends.keys()]).toEqual(['a', 'b', 'c'])
  stop.abort()
  for (const [index, end] of [...ends.values()].entries()) {
    await systemClock.sleep(20)
    expect(dispatcher.running).toHaveLength(3 - index)
    end.reject(new Error('it ends'))
  }
  await work
  expect(dispatcher.running).toEqual([])
})

test('what one follower does long delays no other, and the end waits for both', async () => {
  const config = { jobs: [], repositories: [], repository: {}, parallel: 4, limits: {} }
  const { signal } = new AbortController()
  const history = { add: async () => undefined }
  const locks = { refusal: async () => undefined }
  const parts = { config, clock: systemClock, ids: createIds(), log: silentLog, locks, history, signal }
  const copy = Promise.withResolvers<void>()
  const told: string[] = []
  const dispatcher = new Dispatcher({
    agent: parts as unknown as Agent,
    followers: [
      {
        name: 'slow',
        after: async ({ record }) => {
          await copy.promise
          told.push(`copied ${record.vm.name}`)
        },
      },
      { name: 'broken', after: () => Promise.reject(new Error('it is broken')) },
      { name: 'quick', after: async ({ record }) => void told.push(record.vm.name) },
    ],
  })
  // Each of them fails at once: there is no repository.
  dispatcher.ask(
    ['a', 'b'].map((name) => ({ vm: ref(name), place })),
    { job: undefined, mode: undefined, by: 'a test' },
  )
  const work = dispatcher.run({ stop: signal, once: true })
  await expect.poll(() => told.toSorted()).toEqual(['a', 'b'])
  copy.resolve()
  await work
  expect(told.slice(2).toSorted()).toEqual(['copied a', 'copied b'])
})
