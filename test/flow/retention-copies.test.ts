import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Agent } from '../../src/agent/agent.ts'
import { loadConfig } from '../../src/agent/index.ts'
import { retentionWork } from '../../src/agent/after-retention.ts'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* The retention of a job between two copies: what came after the first is not forgotten before the second. */
let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

it('forgets no point that a repository of copyTo has not got yet', async () => {
  const password = join(session.directory, 'second-password')
  await writeFile(password, 'another secret\n', { mode: 0o600 })
  const second = join(session.directory, 'second')
  const config = join(session.directory, 'vcb.yaml')
  const job = { name: 'kept', select: 'db01', repository: 'default', copyTo: 'second', retention: { last: 1 } }
  await writeFile(config, JSON.stringify({ repositories: { second: { url: second, passwordFile: password } }, jobs: [job] }))
  session.environment['VCB_CONFIG'] = config
  expect((await session.vcbWith({ VCB_REPO: second, VCB_REPO_PASSWORD_FILE: password }, 'init')).exit).toBe(0)

  const points: Json[] = []
  const backUp = async (): Promise<void> => void points.push((await session.json(['backup', 'db01', '--quiesce', 'none'])).vms[0])
  await backUp()
  expect((await session.json(['copy', '--to', 'second'])).points.map(({ result }: Json) => result)).toEqual(['copied'])
  await backUp()
  await backUp()

  const retention = async (): Promise<readonly string[]> => {
    await using agent = await Agent.open(await loadConfig({}, session.environment), {
      clock: systemClock,
      log: silentLog,
      signal: new AbortController().signal,
    })
    const [wanted] = agent.config.jobs
    if (wanted === undefined) throw new Error('no job')
    await retentionWork(agent, () => agent.config).work(wanted, [points[0].vm], {})
    return (await session.json(['points', 'db01'])).points.map(({ id }: Json) => id)
  }
  // The last one stays by the policy, the one before it because only this repository has it.
  expect(new Set(await retention())).toEqual(new Set([points[1].point, points[2].point]))
  await session.json(['copy', '--to', 'second'])
  expect(await retention()).toEqual([points[2].point])
  await session.expectClean()
})
