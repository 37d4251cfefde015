import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createIds, systemClock } from '../../src/core/index.ts'
import { openSqliteJournal, systemProcesses } from '../../src/journal/index.ts'
import { openState } from '../../src/state/index.ts'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'
import { startAgent, untilTrue } from './running-agent.ts'

/* `vcb agent` and the commands that talk to it, over the lab. */
let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

async function configure(jobs: string): Promise<void> {
  const file = join(session.directory, 'vcb.yaml')
  await writeFile(file, `parallel: 2\n${jobs}`)
  session.environment['VCB_CONFIG'] = file
}

const history = async (...argv: readonly string[]): Promise<Json[]> => (await session.json(['history', ...argv])).runs

it('runs once what is due, each VM by itself: the failure of one is nobody else’s', async () => {
  await configure('jobs:\n  - { name: nightly, select: [web01, win01], cron: "0 3 * * *", timeZone: UTC, quiesce: none }\n')
  const first = await session.json(['agent', '--once'])
  // Never backed up before, and no moment has come since the job knows them.
  expect(first.runs).toEqual([])
  await configure('jobs:\n  - { name: nightly, select: [web01, win01], rpo: 24h, timeZone: UTC, quiesce: none }\n')
  const ran = await session.faulty({ on: 'CreateSnapshotEx_Task', object: 'win01', fault: 'NoPermission' }, () =>
    session.json(['agent', '--once'], 12),
  )
  expect(ran.runs.map(({ vm, job, result }: Json) => [vm.name, job, result]).toSorted()).toEqual([
    ['web01', 'nightly', 'succeeded'],
    ['win01', 'nightly', 'failed'],
  ])
  // What failed has its next try, what is fresh has none.
  expect((await history('--vm', 'win01'))[0]).toMatchObject({ result: 'failed', error: { code: expect.any(String) } })
  await session.expectClean()
})

it('is steered by its commands while it runs, and ends when it is told', async () => {
  await configure('jobs:\n  - { name: nightly, select: [web01], rpo: 24h, timeZone: UTC, quiesce: none }\n')
  const agent = await startAgent(session)
  const second = await session.vcb('agent')
  expect([second.exit, second.err]).toEqual([6, expect.stringContaining('An agent runs with this state directory already')])
  const before = (await history()).length
  const started = await session.json(['run', '--vm', 'win01', '--wait'])
  expect(started.runs).toMatchObject([{ vm: 'win01', result: 'succeeded' }])
  expect(await history()).toHaveLength(before + 1)
  expect((await session.json(['status'])).agent).toMatchObject({ draining: false, waiting: [] })
  await session.json(['drain'])
  expect((await session.vcb('run', 'nightly')).exit).toBe(6)
  await session.json(['drain', '--off'])
  await configure('jobs:\n  - { name: weekly, select: [win01], cron: "0 3 * * 0", timeZone: UTC }\n')
  expect((await session.json(['reload'])).changed).toEqual(['jobs'])
  expect((await session.json(['run', 'weekly', '--mode', 'full', '--wait'])).runs).toMatchObject([{ vm: 'win01', result: 'succeeded' }])
  expect((await history('--vm', 'win01', '--limit', '1'))[0]).toMatchObject({ job: 'weekly', mode: 'full' })
  await writeFile(join(session.directory, 'vcb.yaml'), 'jobs: [ {')
  expect((await session.vcbWith({ VCB_CONFIG: undefined }, 'reload')).exit).toBe(3)
  await configure('')
  expect((await agent.end()).exit).toBe(0)
  await session.expectClean()
})

it('killed in the middle of a run: the next one releases what it held, and makes up for it once', async () => {
  await configure('jobs:\n  - { name: linux, select: [db01], rpo: 24h, timeZone: UTC, quiesce: none }\n')
  const child = await runChild(FROM_SOURCES, ['agent', '--once', '--json'], session.environment, {
    kill: 'after:call CreateSnapshotEx_Task',
  })
  expect(child.killed, child.err + child.out).toBe(true)
  const again = await session.json(['agent', '--once'])
  expect(again.runs).toMatchObject([{ vm: { name: 'db01' }, job: 'linux', result: 'succeeded' }])
  const runs = await history('--vm', 'db01')
  expect(runs.map(({ result }) => result)).toEqual(['succeeded', 'canceled'])
  expect((await session.json(['agent', '--once'])).runs).toEqual([])
  await session.expectClean()
})

it('copies what a job made, then forgets by its policy and frees the space, when the last run of the cycle has ended', async () => {
  const password = join(session.directory, 'second-password')
  await writeFile(password, 'another secret\n', { mode: 0o600 })
  const second = join(session.directory, 'second')
  const asSecond = { VCB_REPO: second, VCB_REPO_PASSWORD_FILE: password }
  expect((await session.vcbWith(asSecond, 'init')).exit).toBe(0)
  await configure(
    'repository: { prune: { every: 2h, maxUnused: 0% } }\n' +
      `repositories:\n  second: { url: ${JSON.stringify(second)}, passwordFile: ${JSON.stringify(password)} }\n` +
      'jobs:\n  - { name: kept, select: [db01, web01], repository: default, copyTo: [second], retention: { last: 1 }, timeZone: UTC, quiesce: none }\n',
  )
  const agent = await startAgent(session)
  const pointsOf = async (vm: string, environment: Record<string, string> = {}): Promise<string[]> =>
    (await session.vcbWith(environment, 'points', vm, '--json')).json().points.map(({ run }: Json) => run)
  for (let night = 0; night < 2; night++) {
    expect((await session.json(['run', 'kept', '--wait'])).runs.map(({ result }: Json) => result)).toEqual(['succeeded', 'succeeded'])
  }
  for (const vm of ['db01', 'web01']) {
    const [last] = await history('--vm', vm, '--limit', '1')
    await untilTrue(async () => (await pointsOf(vm)).join() === last.run)
    // The first cycle may forget while the second one's point is there and not copied yet.
    await untilTrue(async () => (await pointsOf(vm, asSecond)).includes(last.run))
    expect((await pointsOf(vm, asSecond)).length).toBeGreaterThanOrEqual(2)
  }
  // Once in the two hours, by the first cycle; the space of what a later one forgot waits.
  const prunes = async (): Promise<number> => {
    await using state = await openState(join(session.environment['VCB_STATE_DIR'] ?? '', 'state.sqlite'))
    const journal = await openSqliteJournal({ state, clock: systemClock, ids: createIds(), processes: systemProcesses })
    return (await journal.finished(1000)).filter(({ kind, outcome }) => kind === 'prune' && outcome.result === 'succeeded').length
  }
  await untilTrue(async () => (await prunes()) === 1)
  expect((await agent.end()).exit).toBe(0)
  expect(await prunes()).toBe(1)
  await session.expectClean()
})
