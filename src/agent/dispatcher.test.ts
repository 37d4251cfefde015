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
