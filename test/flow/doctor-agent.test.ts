import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* What "vcb doctor" says of the agent and its jobs, over the lab. */
let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

async function doctor(config: object): Promise<{ readonly exit: number; readonly of: (check: string) => Json[] }> {
  const file = join(session.directory, 'vcb.yaml')
  await writeFile(file, JSON.stringify(config))
  const result = await session.vcbWith({ VCB_CONFIG: file }, 'doctor', '--json')
  return { exit: result.exit, of: (check) => result.json().findings.filter((each: Json) => each.check === check) }
}

it('names jobs without VMs, those whose moment never comes, repositories that do not open, secrets that are open, and an agent that does not run', async () => {
  const password = join(session.directory, 'open-password')
  await writeFile(password, 'another\n')
  await chmod(password, 0o644)
  const job = { timeZone: 'UTC', cron: '0 3 * * *', repository: 'default' }
  const { exit, of } = await doctor({
    repositories: { far: { url: join(session.directory, 'nowhere'), passwordFile: password } },
    jobs: [
      { name: 'good', select: ['web01', 'db01'], ...job, copyTo: ['far'] },
      { name: 'empty', select: ['nobody*'], ...job },
      { name: 'byhand', select: ['web01'], timeZone: 'UTC', repository: 'default' },
      { name: 'never', select: ['web01'], ...job, blackouts: ['2020-01-01 to 2199-12-31'] },
    ],
  })
  expect(exit).toBe(3)
  expect(of('configuration')).toMatchObject([
    { result: 'failed', detail: expect.stringMatching(/repositories\.far\.passwordFile: .*mode 644/) },
  ])
  expect(of('jobs')).toMatchObject([{ result: 'ok', detail: '3 of 4 jobs select VMs, 4 in all' }])
  expect(of('job empty')).toMatchObject([{ result: 'failed', detail: expect.stringMatching(/^It selects no VM: /) }])
  expect(of('job byhand')).toMatchObject([{ result: 'warning' }])
  expect(of('job good')).toEqual([])
  expect(of('repository far')).toMatchObject([{ result: 'failed', detail: expect.stringContaining('The job good needs it.') }])
  expect(of('agent')).toMatchObject([{ result: 'warning', detail: expect.stringContaining('the 4 jobs are not run by themselves') }])
  expect(of('clock')).toMatchObject([{ result: 'ok' }])
  expect(of('user')).toMatchObject([{ result: 'ok' }])
  expect(of('state directory')).toMatchObject([{ result: 'ok' }])
  expect(of('log')).toMatchObject([{ result: 'ok', detail: expect.stringContaining('10 files kept') }])
  expect(of('job never')).toMatchObject([{ result: 'failed', detail: expect.stringContaining('Its moment never comes') }])
})

it('finds nothing to repair where everything is right', async () => {
  const { exit, of } = await doctor({ jobs: [{ name: 'good', select: ['web01'], timeZone: 'UTC', rpo: '24h' }] })
  expect([exit, ...of('configuration').map(({ result }) => result), ...of('jobs').map(({ result }) => result)]).toEqual([0, 'ok', 'ok'])
})
