import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { A_NIGHT } from '../../test/notices-world.ts'
import { silentLog, throwIfAborted } from '../core/index.ts'
import type { ProcessIdentity } from '../journal/index.ts'
import { openState, type State } from '../state/index.ts'
import { CoverageWatch } from './coverage-watch.ts'
import { DigestTimer } from './digest.ts'
import type { Occurrence } from './occurrence.ts'
import { createReport } from './report.ts'
import { openSqliteToldMarks } from './sqlite-told-marks.ts'
import { Teller } from './teller.ts'

/* Reports and missed RPOs, which several agents see and one tells, once. */
let directory: string
let state: State
let posted: [string, Occurrence][]
const dead = new Set<number>()
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-told-'))
  state = await openState(join(directory, 'state.sqlite'))
  posted = []
  dead.clear()
})
afterEach(async () => {
  await state[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})

const agent = (pid: number) => {
  const marks = openSqliteToldMarks(state)
  const self: ProcessIdentity = { pid, bootId: 'b', startTime: pid }
  const teller = new Teller(marks, { self: async () => self, isAlive: async (other) => !dead.has(other.pid) })
  const post = async (channel: string, each: Occurrence): Promise<void> => void posted.push([`${pid} ${channel}`, each])
  return { marks, teller, post }
}

describe('reports at moments', () => {
  const DAY = 86_400_000
  const begin = Date.parse('2026-11-25T05:00:00.000Z')
  let reports: string[]
  beforeEach(() => {
    reports = []
  })
  const look = async (ms: number, { pid = 1, fails = false, settleMs = 0 } = {}): Promise<void> => {
    const stop = new AbortController()
    const timer = new DigestTimer({
      plan: { name: 'office', cron: ['0 7 * * *'], timeZone: 'Europe/Berlin' },
      ...agent(pid),
      report: async (since, until) => {
        if (fails) throw new Error('vCenter is away')
        reports.push(`${since.toISOString()} ${until.toISOString()}`)
        return createReport({ title: 'Daily', proxy: 'p', since, until, timeZone: 'UTC', records: [] })
      },
      clock: {
        now: () => new Date(begin + ms),
        monotonicMs: () => ms,
        // One look, then the end.
        sleep: async () => {
          stop.abort()
          throwIfAborted({ signal: stop.signal })
        },
        every: () => ({ [Symbol.dispose]: () => undefined }),
      },
      log: silentLog,
      settleMs,
    })
    await timer.run({ signal: stop.signal })
  }

  test('each tells the time since the last one, those of an outage are caught up in one, and none comes twice', async () => {
    await look(0)
    expect(reports).toEqual([])
    await look(3_600_000 + 1)
    await look(3_600_000 + 60_000)
    await look(DAY)
    expect(reports).toEqual(['2026-11-25T05:00:00.000Z 2026-11-25T06:00:00.001Z'])
    await look(4 * DAY + 7_200_000)
    await look(4 * DAY + 7_200_001)
    expect(reports).toHaveLength(2)
    expect(reports[1]).toBe('2026-11-25T06:00:00.001Z 2026-11-29T07:00:00.000Z')
    expect(new Set(posted.map(([, { id }]) => id)).size).toBe(2)
  })

  test('of two agents one tells, and the other one when that is dead; what could not be made is made at the next look', async () => {
    await look(0, { pid: 2 })
    await look(0, { pid: 1 })
    await look(3_600_000, { pid: 1 })
    expect(posted).toEqual([])
    await look(3_600_000, { pid: 2, fails: true })
    dead.add(2)
    await look(3_600_500, { pid: 1 })
    await look(3_601_000, { pid: 1 })
    expect(posted.map(([by]) => by)).toEqual(['1 office'])
  })

  test('what ended a moment ago is left to the next one, which begins where that ended', async () => {
    await look(0)
    await look(3_600_000 + 1, { settleMs: 10_000 })
    await look(3_600_000 + 5_000, { settleMs: 10_000 })
    await look(DAY + 3_600_000 + 1, { settleMs: 10_000 })
    expect(reports).toEqual(['2026-11-25T05:00:00.000Z 2026-11-25T05:59:50.001Z', '2026-11-25T05:59:50.001Z 2026-11-26T05:59:50.001Z'])
  })
})

describe('a missed RPO, and a job with a problem', () => {
  const watch = (pid = 1) => new CoverageWatch({ channel: 'office', ...agent(pid) })
  const { coverage } = A_NIGHT
  const told = () =>
    posted.splice(0).map(([, each]) => (each.kind === 'missedRpo' ? each.vm.vm.name : each.kind === 'job' ? each.problem.what : ''))

  test('is told once, after a restart too, and once more when it comes again', async () => {
    expect(await watch().look(coverage)).toBe(2)
    expect(told()).toEqual(['app07', 'has no VM'])
    expect(await watch().look(coverage)).toBe(0)
    const at = (iso: string) => new Date(iso)
    const good = coverage.covered.map((each) => ({ ...each, lastGoodAt: coverage.at }))
    expect(await watch().look({ ...coverage, covered: good, problems: [] })).toBe(0)
    expect(await watch().look({ at: at('2026-11-27T06:00:01.000Z'), covered: good, problems: coverage.problems })).toBe(3)
    expect(told().toSorted()).toEqual(['app07', 'db01', 'has no VM'])
  })

  test('of a VM whose job names none for a while is not told again', async () => {
    await watch().look({ ...coverage, problems: [] })
    expect(told()).toEqual(['app07'])
    await watch().look({ ...coverage, covered: [] })
    expect(told()).toEqual(['has no VM'])
    await watch().look({ ...coverage, problems: [] })
    expect(told()).toEqual([])
  })

  test('is told by one agent', async () => {
    expect(await watch(1).look(coverage)).toBe(2)
    expect(await watch(2).look(coverage)).toBe(0)
    dead.add(1)
    expect(await watch(2).look(coverage)).toBe(0)
    expect(posted.map(([by]) => by)).toEqual(['1 office', '1 office'])
  })
})
