import { expect, it } from 'vitest'
import { AgentError, type RunId, type RunRecord, silentLog, type VmRef } from '../core/index.ts'
import { AfterCycle } from './after-cycle.ts'
import type { JobConfig } from './config/jobs.ts'

const vmOf = (name: string): VmRef => ({ moref: name, name, instanceUuid: `i-${name}`, biosUuid: 'b', vcenterUuid: 'v', path: `/${name}` })
const jobOf = (name: string, repository = 'r'): JobConfig => ({ name, repository }) as JobConfig
const recordOf = (vm: string, result: RunRecord['result'] = 'succeeded'): RunRecord =>
  ({ run: 'r' as RunId, vm: vmOf(vm), result, repository: '', notProtected: [], warnings: [] }) as unknown as RunRecord

function world(options: { busy?: Set<string>; fail?: (() => Error | undefined) | undefined } = {}) {
  const done: string[] = []
  const busy = options.busy ?? new Set<string>()
  const follower = new AfterCycle(
    [
      {
        name: 'first',
        wanted: () => true,
        work: async () => {
          const error = options.fail?.()
          if (error !== undefined) throw error
        },
      },
      {
        name: 'second',
        wanted: ({ name }) => name !== 'unwanted',
        work: async (job, vms) => void done.push(`${job.name}: ${vms.map(({ name }) => name).join(' ')}`),
      },
    ],
    (repository) => busy.has(repository),
    silentLog,
  )
  return { done, busy, follower }
}

it('waits until nothing writes to the repository, and takes all VMs with a new point at once', async () => {
  const { done, busy, follower } = world({ busy: new Set(['r']) })
  await follower.after({ record: recordOf('a'), job: jobOf('j') }, {})
  await follower.after({ record: recordOf('b', 'failed'), job: jobOf('j') }, {})
  await follower.after({ record: recordOf('c'), job: jobOf('j') }, {})
  await follower.after({ record: recordOf('x'), job: jobOf('other', 'elsewhere') }, {})
  expect(done).toEqual(['other: x'])
  busy.delete('r')
  await follower.after({ record: recordOf('d', 'failed'), job: jobOf('j') }, {})
  expect(done).toEqual(['other: x', 'j: a c'])
  await follower.after({ record: recordOf('d', 'canceled'), job: jobOf('j') }, {})
  await follower.after({ record: recordOf('e'), job: undefined }, {})
  await follower.after({ record: recordOf('e'), job: jobOf('unwanted') }, {})
  expect(done).toHaveLength(2)
})

it('comes again when the repository was in use by others, and not when it failed for good', async () => {
  let error: Error | undefined = new AgentError('CONFLICT', 'It is locked.')
  const { done, follower } = world({ fail: () => error })
  await follower.after({ record: recordOf('a'), job: jobOf('j') }, {})
  error = undefined
  await follower.after({ record: recordOf('b', 'failed'), job: jobOf('j') }, {})
  expect(done).toEqual(['j: a'])
  error = new AgentError('UNAVAILABLE', 'It is away.')
  await follower.after({ record: recordOf('c'), job: jobOf('j') }, {})
  error = undefined
  await follower.after({ record: recordOf('b', 'failed'), job: jobOf('j') }, {})
  expect(done).toEqual(['j: a'])
})
