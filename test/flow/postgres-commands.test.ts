import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { pruneWork } from '../../src/agent/after-prune.ts'
import { Agent } from '../../src/agent/agent.ts'
import { loadConfig } from '../../src/agent/index.ts'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Commands of several proxies on one database: what one did the others know, and what only one may do one does. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const SCENARIO = {
  name: 'postgres-commands',
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'ds1', type: 'VMFS6' }],
      vms: ['web01', 'db01'].map((name) => ({ name, changeTracking: true, disks: [{ size: '4MiB', content: 'random' }] })),
    },
  ],
}

describePeer('postgres', 'proxies on one database', (path) => {
  let server: Postgres
  let session: LabSession
  const environments = new Map<string, Record<string, string>>()
  const env = (name: string): Record<string, string> => environments.get(name) ?? expect.fail(name)
  beforeAll(async () => {
    server = await startPostgres(path)
    session = await openLabSession({ scenario: SCENARIO })
    await session.json(['init'])
    const url = server.url(await server.database())
    // Two that share the database, and two that know nothing of each other.
    for (const [name, state] of [
      ['one', { state: { url }, proxy: { name: 'one' } }],
      ['two', { state: { url }, proxy: { name: 'two' } }],
      ['alone', {}],
      ['apart', {}],
    ] as const) {
      const directory = join(session.directory, name)
      await mkdir(directory)
      const job = { name: 'all', select: ['*'], rpo: '24h', timeZone: 'UTC', quiesce: 'none', retention: { last: 1 } }
      await writeFile(join(directory, 'vcb.yaml'), JSON.stringify({ ...state, jobs: [job] }))
      environments.set(name, { ...session.environment, VCB_STATE_DIR: join(directory, 'state'), VCB_CONFIG: join(directory, 'vcb.yaml') })
    }
  })
  afterAll(async () => {
    await session?.[Symbol.asyncDispose]()
    await server?.[Symbol.asyncDispose]()
  })

  const ask = async (name: string, ...argv: readonly string[]): Promise<Json> => {
    const { exit, err, json } = await session.vcbWith(env(name), ...argv, '--json')
    expect(exit, err).toBe(0)
    return json()
  }

  it('vcb jobs and vcb plan of one proxy know what another one ran', async () => {
    const offline = (await ask('two', 'jobs')).jobs as Json[]
    expect(offline).toMatchObject([{ name: 'all' }])
    expect((await ask('two', 'plan', '--to', '2d', '--offline', '2')).runs.length).toBeGreaterThan(1)
    const before = (await ask('two', 'jobs', '--vms')).jobs[0].vms as Json[]
    expect(before.map(({ vm, lastGoodAt }) => [vm.name, lastGoodAt])).toEqual([
      ['db01', undefined],
      ['web01', undefined],
    ])
    const { runs } = await ask('one', 'agent', '--once')
    expect(runs.map(({ result }: Json) => result)).toEqual(['succeeded', 'succeeded'])
    const after = (await ask('two', 'jobs', 'all', '--vms')).jobs[0].vms as Json[]
    const seen = (await ask('one', 'jobs', 'all', '--vms')).jobs[0].vms as Json[]
    expect(after).toEqual(seen)
    for (const { lastGoodAt } of after) expect(Date.parse(lastGoodAt)).toBeGreaterThan(systemClock.now().getTime() - 600_000)
    const plan = await ask('two', 'plan', '--to', '2d')
    expect(new Set(plan.runs.map(({ vm }: Json) => vm.name))).toEqual(new Set(['web01', 'db01']))
    expect(plan.runs.map(({ mode }: Json) => mode)).toContain('incremental')
    expect(plan.misses).toEqual([])
    for (const argv of [
      ['jobs', '--vms'],
      ['plan', '--to', '2d'],
    ]) {
      const text = await session.vcbWith(env('two'), ...argv)
      expect(text.exit, text.err).toBe(0)
      expect(text.out).toContain('web01')
    }
  }, 120_000)

  const prune = (
    name: string,
  ): { readonly child: ChildProcess; readonly ended: Promise<{ readonly exit: number | null; readonly said: Json }> } => {
    const child = spawn(process.execPath, [COMMAND, 'prune', '--max-unused', '0', '--json'], {
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env(name) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    child.stdout.on('data', (text: Buffer) => (out += text.toString()))
    const ended = once(child, 'close').then(([exit]) => ({ exit, said: JSON.parse(out) }))
    return { child, ended }
  }
  /** Of those that are whole: a file on its way in has another name. */
  const locks = async (): Promise<readonly string[]> =>
    (await readdir(join(session.repository, 'locks'))).filter((name) => /^[0-9a-f]{64}$/u.test(name))

  it.each([
    ['that share a database', 'one', 'two'],
    ['that know nothing of each other', 'alone', 'apart'],
  ])(
    'of two processes %s one prunes, and the other is told who does',
    async (_what, first, second) => {
      await session.lab.control.write('web01', { percent: 30, seed: first.length })
      for (let night = 0; night < 2; night++) {
        await session.lab.control.write('web01', { percent: 30, seed: night + 10 * first.length })
        await ask(first, 'backup', 'web01', '--quiesce', 'none')
      }
      await ask(first, 'forget', 'web01', '--keep-last', '1')
      const pruning = prune(first)
      await expect.poll(locks, { timeout: 30_000, interval: 5 }).not.toEqual([])
      pruning.child.kill('SIGSTOP')
      const refused = await prune(second).ended
      expect(refused.exit).toBe(6)
      expect(refused.said.error).toMatchObject({
        code: 'CONFLICT',
        message: expect.stringMatching(new RegExp(`is locked exclusively by process ${pruning.child.pid} of `, 'u')),
        next: expect.stringContaining('Wait for that process to end'),
      })
      pruning.child.kill('SIGCONT')
      const done = await pruning.ended
      expect([done.exit, done.said.freedBytes > 0]).toEqual([0, true])
      expect(await locks()).toEqual([])
      // Begun at the same moment, one has it all the same: both in turn, or one of them alone.
      const both = await Promise.all([prune(first).ended, prune(second).ended])
      expect(both.some(({ exit }) => exit === 0)).toBe(true)
      for (const { exit, said } of both) if (exit !== 0) expect([exit, said.error.code]).toEqual([6, 'CONFLICT'])
      expect((await ask(second, 'check')).problems).toEqual([])
      expect(await locks()).toEqual([])
    },
    180_000,
  )

  it('of two agents one prunes after its cycle, and the other finds it done', async () => {
    await using stack = new AsyncDisposableStack()
    const later = { ...systemClock, now: () => new Date(systemClock.now().getTime() + 30 * 24 * 3_600_000) }
    const agents: Agent[] = []
    for (const name of ['one', 'two']) {
      const signal = new AbortController().signal
      agents.push(stack.use(await Agent.open(await loadConfig({}, env(name)), { clock: later, log: silentLog, signal, kind: 'agent' })))
    }
    const prunes = async (): Promise<number> =>
      ((await agents[0]?.journal.finished(500)) ?? []).filter(({ kind, outcome }) => kind === 'prune' && outcome.result === 'succeeded')
        .length
    const before = await prunes()
    const works = agents.map((agent) => ({ work: pruneWork(agent, () => agent.config), job: agent.config.jobs[0] ?? expect.fail() }))
    for (let round = 0; round < 2; round++) {
      const ended = await Promise.allSettled(works.map(({ work, job }) => work.work(job, [], {})))
      expect(ended.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled'])
      expect(await prunes()).toBe(before + 1)
    }
  })
})
