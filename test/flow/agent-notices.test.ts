import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { openPgToldMarks, openSqliteToldMarks } from '../../src/notices/index.ts'
import { openState } from '../../src/state/index.ts'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { freePort } from '../free-port.ts'
import { describePeer, peer, requirePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { type SmtpServer, startSmtpServer } from '../smtp-server.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* What the agent tells, by mail to a real server, and to a web address that hangs. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const LOGIN = { user: 'backup', password: 'n0tice-p4ssword' }
const DAY = 86_400_000

const SCENARIO = {
  taskMs: 0,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [{ name: 'ds1', type: 'NFS' }],
      vms: ['web01', 'win01', 'db01'].map((name) => ({
        name,
        datastore: 'ds1',
        changeTracking: true,
        disks: [{ size: '4MiB', content: 'random' }],
      })),
    },
  ],
}

let session: LabSession
let hanging: Server
const children = new Set<ChildProcess>()

beforeAll(async () => {
  session = await openLabSession({ scenario: SCENARIO })
  await session.json(['init'])
  await writeFile(join(session.directory, 'mail.pw'), `${LOGIN.password}\n`, { mode: 0o600 })
  hanging = createServer(() => undefined)
  hanging.listen(0, '127.0.0.1')
  await once(hanging, 'listening')
  const { port } = hanging.address() as { port: number }
  await writeFile(join(session.directory, 'url'), `http://127.0.0.1:${port}/T0KEN-of-it\n`, { mode: 0o600 })
})
afterEach(async () => {
  for (const child of children) await ended(child, 'SIGKILL')
})
afterAll(async () => {
  hanging.closeAllConnections()
  hanging.close()
  await session[Symbol.asyncDispose]()
})

const startSmtp = (port?: number): Promise<SmtpServer> =>
  startSmtpServer(requirePeer('aiosmtpd'), requirePeer('openssl'), { security: 'starttls', login: LOGIN, port })

async function configure(text: readonly string[]): Promise<void> {
  const file = join(session.directory, 'vcb.yaml')
  await writeFile(file, `${text.join('\n')}\n`)
  session.environment['VCB_CONFIG'] = file
}
const mail = (port: number): string =>
  `mail: { server: "smtp://127.0.0.1:${port}", from: b@example.com, to: a@example.com, user: ${LOGIN.user}, passwordFile: ${join(session.directory, 'mail.pw')} }`
const job = (select: string, more = ''): string =>
  `jobs: [{ name: nightly, select: ${select}, rpo: 24h, timeZone: UTC, quiesce: none, notices: [office, hangs]${more} }]`
const hangs = 'hangs: { webhook: { urlFile: url }, on: [success, failure], gather: 0s, timeout: 500ms }'

/** A running `vcb agent`, a process of its own. */
async function startAgent(environment: Readonly<Record<string, string>> = session.environment): Promise<ChildProcess> {
  const child = spawn(process.execPath, [COMMAND, 'agent'], {
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (text: Buffer) => (said += text.toString()))
  await expect.poll(() => said, { timeout: 60_000 }).toContain('The agent runs')
  return child
}
async function ended(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
  children.delete(child)
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  const exited = once(child, 'exit')
  child.kill(signal)
  const [status] = (await exited) as [number | null]
  return status
}
const waiting = async (): Promise<Readonly<Record<string, number>>> =>
  Object.fromEntries(((await session.json(['notices', 'list'])) as Json[]).map((each) => [each.notice, each.waiting]))

describe('the agent', () => {
  it('that runs but once tells everything in one mail, what failed before the rest, and a run that was cut off with the agent before it', {
    timeout: 60_000,
  }, async () => {
    await using server = await startSmtp()
    await configure([
      'parallel: 1',
      `notices: { office: { ${mail(server.port)}, caFile: ${server.certificate}, on: [success, failure, warning] }, ${hangs.replace('[success, failure]', 'missedRpo')} }`,
      job('[web01, win01]'),
    ])
    const cut = await runChild(FROM_SOURCES, ['agent', '--once'], session.environment, { kill: 'after:call CreateSnapshotEx_Task' })
    expect(cut.killed, cut.err + cut.out).toBe(true)
    await session.faulty({ on: 'CreateSnapshotEx_Task', object: 'win01', fault: 'NoPermission' }, () =>
      session.json(['agent', '--once'], 12),
    )
    const [told, ...more] = await server.mails()
    expect(more).toEqual([])
    expect(told?.headers['subject']).toMatch(/^vcb .*: 1 run failed, 1 run canceled, 1 run succeeded$/)
    const { text = '' } = told ?? {}
    expect([text.indexOf('NOT PROTECTED'), text.indexOf('win01'), text.indexOf('web01')].every((at) => at > 0)).toBe(true)
    expect(text.indexOf('win01')).toBeLessThan(text.indexOf('web01'))
    expect(await waiting()).toEqual({ office: 0, hangs: 0 })
  })

  it('never waits for a server that is away or hangs, and killed before it could tell tells once, later', {
    timeout: 120_000,
  }, async () => {
    const port = await freePort()
    await configure([
      // Nobody listens there yet.
      `notices: { office: { ${mail(port)}, on: [success], gather: 0s }, ${hangs} }`,
      job('db01'),
    ])
    const agent = await startAgent({ ...session.environment, VCB_LOG_LEVEL: 'debug' })
    const isOver = async (): Promise<boolean> =>
      ((await session.json(['history', '--vm', 'db01'])).runs as Json[]).some(({ result }) => result === 'succeeded')
    await expect.poll(isOver, { timeout: 60_000, interval: 300 }).toBe(true)
    await expect.poll(waiting, { timeout: 20_000, interval: 300 }).toEqual({ office: 1, hangs: 1 })
    await ended(agent, 'SIGKILL')
    expect(await waiting()).toEqual({ office: 1, hangs: 1 })
    await using server = await startSmtp(port)
    await configure([
      `notices: { office: { ${mail(port)}, caFile: ${server.certificate}, on: [success], gather: 0s }, ${hangs} }`,
      job('db01'),
    ])
    const next = await startAgent({ ...session.environment, VCB_LOG_LEVEL: 'debug' })
    await expect.poll(waiting, { timeout: 60_000, interval: 300 }).toEqual({ office: 0, hangs: 1 })
    // A reload brings other notices into force: who could not be told is left out, and what is asked for now is told.
    await configure([
      `notices: { office: { ${mail(port)}, caFile: ${server.certificate}, on: [success], gather: 0s } }`,
      job('db01').replace(', hangs', ''),
    ])
    expect((await session.json(['reload'])).changed).toEqual(['jobs', 'notices'])
    await session.json(['run', 'nightly', '--wait'])
    await expect.poll(async () => (await server.mails()).length, { timeout: 30_000, interval: 300 }).toBe(2)
    expect(await ended(next, 'SIGTERM')).toBe(0)
    const mails = await server.mails()
    expect(mails.map(({ headers }) => headers['subject'])).toEqual(
      Array.from({ length: 2 }, () => expect.stringMatching(/backup of db01 succeeded/)),
    )
    expect(new Set(mails.map(({ headers }) => headers['message-id'])).size).toBe(2)
    const log = await readFile(session.environment['VCB_LOG_FILE'] ?? '', 'utf8')
    expect(log).toContain('a notice could not be delivered')
    expect(log).not.toMatch(/n0tice-p4ssword|T0KEN-of-it/)
    await session.expectClean()
  })

  it('reports at its moments what is not protected, and tells what became of a copy and of a job without VMs', {
    timeout: 60_000,
  }, async () => {
    await using server = await startSmtp()
    const to = `${mail(server.port)}, caFile: ${server.certificate}`
    await configure([
      `notices: { office: { ${to}, gather: 0s }, morning: { ${to}, digest: "0 7 * * *", timeZone: UTC } }`,
      'repositories: { second: { url: restic:/nowhere/at/all, passwordFile: mail.pw } }',
      'jobs:',
      '  - { name: nightly, select: win01, rpo: 24h, repository: default, timeZone: UTC, quiesce: none, notices: office, copyTo: second }',
      '  - { name: gone, select: nobody, rpo: 24h, repository: default, timeZone: UTC, notices: office }',
    ])
    await noteReport('morning')
    await session.json(['agent', '--once'])
    const mails = await server.mails()
    const subjects = mails.map(({ headers }) => headers['subject']?.replace(/^vcb .*?: /, ''))
    expect(subjects).toHaveLength(3)
    expect(subjects).toEqual(
      expect.arrayContaining([
        '2 jobs with problems',
        'job nightly: copy failed',
        expect.stringMatching(/^\d+ VMs? not protected, 1 job with a problem, .*runs? succeeded/),
      ]),
    )
    const report = mails.find(({ headers }) => /VMs? not protected/.test(headers['subject'] ?? ''))?.text ?? ''
    expect(report).toMatch(
      /NOT PROTECTED\n\nVMs in no job[\s\S]*web01[\s\S]*Jobs with problems[\s\S]*gone +has no VM[\s\S]*Succeeded[\s\S]*win01/,
    )
    // Told once.
    await session.json(['agent', '--once'])
    expect((await server.mails()).filter(({ headers }) => /VMs? not protected|gone/.test(headers['subject'] ?? '')).length).toBe(1)
  })
})

it('vcb report tells what is in no job first, and what ran, as text, page and JSON', async () => {
  await configure([job('[web01, db01]').replace(', notices: [office, hangs]', '')])
  const page = join(session.directory, 'report.html')
  const shown = await session.vcb('report', '--since', '1d', '--html', page, '--time-zone', 'UTC')
  expect([shown.exit, shown.err]).toEqual([12, ''])
  expect(shown.out).toMatch(/NOT PROTECTED\n\nVMs in no job[\s\S]*win01[\s\S]*Failed runs[\s\S]*Succeeded/)
  const report = await session.json(['report', '--job', 'nightly'], 12)
  expect(report.succeeded.map(({ vm }: Json) => vm.name)).toEqual(expect.arrayContaining(['web01', 'db01']))
  expect(report.unselected.map(({ name }: Json) => name)).toContain('win01')
  expect(report.failed.map(({ record }: Json) => record.vm.name)).toEqual(['win01'])
  expect(await readFile(page, 'utf8')).toMatch(/<h2[^>]*>Not protected<\/h2>/)
  expect((await session.json(['report', '--job', 'nihtly'], 5)).error.next).toContain('nightly')
  expect((await session.json(['report', '--time-zone', 'Nowhere'], 2)).error.code).toBe('USAGE')
  // Without vCenter: what ran, and that the rest is not known.
  const { exit, json } = await session.vcbWith({ VCB_VCENTER: 'https://127.0.0.1:1' }, 'report', '--json')
  expect([exit, json().unselected, json().unknown, json().succeeded.length > 0]).toEqual([
    12,
    [],
    [expect.stringContaining('not known')],
    true,
  ])
})

describePeer('postgres', 'of two agents on one database', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())

  it('one makes the report', { timeout: 120_000 }, async (context) => {
    if (peer('aiosmtpd') === undefined) context.skip('aiosmtpd is not here')
    await using smtp = await startSmtp()
    const database = await server.database()
    const environments: Record<string, string>[] = []
    for (const name of ['one', 'two']) {
      const directory = join(session.directory, name)
      await mkdir(directory)
      const to = {
        server: `smtp://127.0.0.1:${smtp.port}`,
        from: 'b@example.com',
        to: 'a@example.com',
        user: LOGIN.user,
        passwordFile: '../mail.pw',
      }
      const config = {
        state: { url: server.url(database) },
        proxy: { name },
        notices: {
          office: { mail: to, caFile: smtp.certificate, gather: '0s' },
          morning: { mail: to, caFile: smtp.certificate, digest: '0 7 * * *', timeZone: 'UTC' },
        },
        jobs: [{ name: 'all', select: 'web01', rpo: '24h', windows: [], timeZone: 'UTC', quiesce: 'none', notices: 'office' }],
      }
      await writeFile(join(directory, 'vcb.yaml'), JSON.stringify(config))
      environments.push({
        ...session.environment,
        VCB_STATE_DIR: join(directory, 'state'),
        VCB_CONFIG: join(directory, 'vcb.yaml'),
        VCB_LOG_FILE: join(directory, 'vcb.log'),
      })
    }
    {
      await using state = await server.state({ database })
      const before = new Date(systemClock.now().getTime() - 2 * DAY).toISOString()
      expect(await openPgToldMarks(state).change('report morning', undefined, `${before} ${before}`)).toBe(true)
    }
    const agents = await Promise.all(environments.map(startAgent))
    await expect.poll(async () => (await smtp.mails()).length, { timeout: 60_000, interval: 300 }).toBeGreaterThan(0)
    // Each has looked when it began, and ends what it began.
    for (const agent of agents) expect(await ended(agent, 'SIGTERM')).toBe(0)
    expect((await smtp.mails()).map(({ headers }) => headers['subject'])).toEqual([expect.stringMatching(/VMs? not protected/)])
  })
})

/** As if the last report was made two days ago. */
async function noteReport(name: string): Promise<void> {
  await using state = await openState(join(session.environment['VCB_STATE_DIR'] ?? '', 'state.sqlite'))
  const marks = openSqliteToldMarks(state)
  const before = new Date(systemClock.now().getTime() - 2 * DAY).toISOString()
  expect(await marks.change(`report ${name}`, await marks.get(`report ${name}`), `${before} ${before}`)).toBe(true)
}
