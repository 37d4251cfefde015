import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Three agents, each a process with a state directory of its own, on one PostgreSQL: sixty VMs that are all due at once. The lab counts what they do. */
const COMMAND = join(import.meta.dirname, '..', '..', 'scripts', 'vcb.cjs')
const AGENTS = ['one', 'two', 'three'] as const
const VMS = 60
const LIMITS = { snapshotsPerDatastore: 4, streamsPerDatastore: 4, nfcPerVcenter: 8 }

type Running = { readonly child: ChildProcess; readonly name: string; output: string }

describePeer('postgres', 'three agents on one database', (path) => {
  let server: Postgres
  let session: LabSession
  const environments = new Map<string, Record<string, string>>()
  const agents = new Map<string, Running>()

  beforeAll(async () => {
    server = await startPostgres(path)
    session = await openLabSession({
      scenario: {
        name: 'three-agents',
        seed: 3,
        taskMs: 20,
        datacenters: [
          {
            name: 'DC',
            hosts: [{ name: 'esx1' }, { name: 'esx2' }, { name: 'esx3' }],
            datastores: [
              { name: 'left', type: 'VMFS6' },
              { name: 'right', type: 'VMFS6' },
            ],
            vms: Array.from({ length: VMS }, (_, index) => ({
              name: `vm${index}`,
              host: `esx${(index % 3) + 1}`,
              datastore: index % 2 === 0 ? 'left' : 'right',
              changeTracking: true,
              disks: [{ size: '4MiB', content: 'random' }],
            })),
          },
        ],
      },
    })
    await session.json(['init'])
    const database = await server.database()
    for (const name of AGENTS) {
      const directory = join(session.directory, name)
      await mkdir(directory)
      const config = {
        state: { url: server.url(database) },
        proxy: { name },
        parallel: 4,
        transports: 'nbdssl',
        limits: LIMITS,
        jobs: [
          {
            name: 'all',
            select: ['*'],
            rpo: '24h',
            timeZone: 'UTC',
            quiesce: 'none',
            retry: { attempts: 3, delay: '1s', on: ['UNAVAILABLE'] },
          },
        ],
      }
      await writeFile(join(directory, 'vcb.yaml'), JSON.stringify(config))
      environments.set(name, {
        ...session.environment,
        VCB_STATE_DIR: join(directory, 'state'),
        VCB_CONFIG: join(directory, 'vcb.yaml'),
        VCB_LOG_FILE: join(directory, 'vcb.log'),
        VCB_LOG_LEVEL: 'info',
      })
    }
  })
  afterAll(async () => {
    for (const { child } of agents.values()) child.kill('SIGKILL')
    await session[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  const start = (name: string): void => {
    const child = spawn(process.execPath, [COMMAND, 'agent'], {
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environments.get(name) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const running: Running = { child, name, output: '' }
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text: Buffer) => (running.output += text.toString()))
    agents.set(name, running)
  }
  const json = async (name: string, argv: readonly string[]): Promise<Json> =>
    (await session.vcbWith(environments.get(name) ?? {}, ...argv, '--json')).json()
  const history = async (): Promise<Json[]> => (await json('one', ['history', '--limit', '1000'])).runs
  const snapshots = async (): Promise<number> => (await session.lab.control.state()).vms.flatMap((vm) => vm.snapshots).length

  test('back up each VM once, keep the limits together, and go on when one is killed', { timeout: 300_000 }, async () => {
    await session.lab.control.fault({ on: 'nfc:read', delayMs: 80 })
    for (const name of AGENTS) start(name)
    // In the middle: some are done, and the one that is to die holds snapshots.
    const worksOn = async (name: string): Promise<number> =>
      ((await json('one', ['agents'])).proxies as Json[])
        .filter((each) => each.name === name && each.kind === 'agent')
        .flatMap(({ jobs }) => jobs).length
    await expect
      .poll(async () => (await history()).length >= 12 && (await worksOn('two')) > 1 && (await snapshots()) > 0, {
        timeout: 120_000,
        interval: 100,
      })
      .toBe(true)
    const [victim] = [agents.get('two')]
    victim?.child.kill('SIGKILL')
    const killedAt = systemClock.monotonicMs()
    const doneBefore = new Set((await history()).filter(({ result }) => result === 'succeeded').map(({ vm }) => vm.name))
    expect(doneBefore.size).toBeLessThan(VMS)

    const good = async (): Promise<string[]> => (await history()).filter(({ result }) => result === 'succeeded').map(({ vm }) => vm.name)
    await expect.poll(async () => new Set(await good()).size, { timeout: 200_000, interval: 500 }).toBe(VMS)
    const tookMs = systemClock.monotonicMs() - killedAt
    const all = await good()
    expect(all.toSorted()).toEqual(Array.from({ length: VMS }, (_, index) => `vm${index}`).toSorted())
    // What the dead one had was released and done again elsewhere within a minute of the rest's end.
    expect(tookMs).toBeLessThan(120_000)
    const cutOff = (await history()).filter(({ result }) => result !== 'succeeded')
    expect(cutOff.length).toBeGreaterThan(0)
    expect(
      cutOff.every(({ result }) => result === 'canceled'),
      JSON.stringify(cutOff.map(({ error }) => error)),
    ).toBe(true)

    const { peaks } = await session.lab.control.state()
    for (const store of ['left', 'right']) expect(peaks[`open snapshots on ${store}`]).toBeLessThanOrEqual(LIMITS.snapshotsPerDatastore)
    expect(Math.max(...['left', 'right'].map((store) => peaks[`open snapshots on ${store}`] ?? 0))).toBe(LIMITS.snapshotsPerDatastore)
    for (const store of ['left', 'right']) expect(peaks[`NFC readers of ${store}`]).toBeLessThanOrEqual(LIMITS.streamsPerDatastore)
    expect(await snapshots()).toBe(0)

    for (const name of ['one', 'three']) {
      const running = agents.get(name)
      const exited = running === undefined ? undefined : once(running.child, 'exit')
      running?.child.kill('SIGTERM')
      expect([name, (await exited)?.[0], running?.output]).toEqual([name, 0, expect.stringContaining('The agent runs')])
      agents.delete(name)
    }
    agents.delete('two')
    const left = await json('one', ['status'])
    expect([left.running, left.leftOver, left.limits]).toEqual([[], [], []])
    expect((await session.json(['check', '--structure-only'])).problems).toEqual([])
  })
})
