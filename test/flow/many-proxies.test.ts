import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { type Ended, runCommand, type Strike } from '../storm/command.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Three proxies, each with a state directory and real processes of its own, on one PostgreSQL. The lab counts. */

const scenario = {
  taskMs: 20,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }, { name: 'esx2' }],
      datastores: [{ name: 'shared', type: 'VMFS6' }],
      vms: Array.from({ length: 12 }, (_, index) => ({
        name: `vm${index}`,
        datastore: 'shared',
        changeTracking: true,
        disks: [{ size: '8MiB', content: 'random' }],
      })),
    },
  ],
}
const LIMITS = { snapshotsPerDatastore: 4, streamsPerDatastore: 3, nfcPerVcenter: 3 }
const PROXIES = ['fra-1', 'fra-2', 'muc-1'] as const
type ProxyName = (typeof PROXIES)[number]

describePeer('postgres', 'three proxies on one database', (path) => {
  let server: Postgres
  let session: LabSession
  let database: string
  const environments = new Map<ProxyName, Record<string, string>>()

  beforeAll(async () => {
    server = await startPostgres(path, { tcp: true })
    session = await openLabSession({ scenario })
    await session.json(['init'])
    database = await server.database()
    const passwordFile = join(session.directory, 'pg-password')
    await writeFile(passwordFile, `${server.password.reveal()}\n`, { mode: 0o600 })
    for (const name of PROXIES) {
      const directory = join(session.directory, name)
      await mkdir(directory)
      const config = {
        // One over the Unix socket, the others over TLS with a password.
        state: name === 'fra-1' ? { url: server.url(database) } : { url: server.tcpUrl(database), passwordFile, caFile: server.caFile },
        proxy: { name, sites: name === 'muc-1' ? ['muc'] : ['fra'] },
        sites: { fra: { hosts: ['esx1'] }, muc: { hosts: ['esx2'] } },
        limits: LIMITS,
      }
      await writeFile(join(directory, 'vcb.yaml'), JSON.stringify(config))
      environments.set(name, { ...session.environment, VCB_STATE_DIR: join(directory, 'state'), VCB_CONFIG: join(directory, 'vcb.yaml') })
    }
  })
  afterAll(async () => {
    await session[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  const run = (name: ProxyName, argv: readonly string[], strikes: readonly Strike[] = []): Promise<Ended> =>
    runCommand([...argv, '--json'], environments.get(name) ?? {}, { strikes, boundMs: 120_000 })
  const json = async (name: ProxyName, argv: readonly string[], exit = 0): Promise<Json> => {
    const ended = await session.vcbWith(environments.get(name) ?? {}, ...argv, '--json')
    expect({ exit: ended.exit, err: ended.err }).toEqual({ exit, err: '' })
    return ended.json()
  }
  const backup = (name: ProxyName, vms: readonly string[], strikes: readonly Strike[] = []): Promise<Ended> =>
    run(name, ['backup', ...vms, '--mode', 'full', '--transport', 'nbdssl', '--parallel', '4'], strikes)
  const peaks = async (): Promise<Readonly<Record<string, number>>> => (await session.lab.control.state()).peaks

  test('have together no more than one may have, and see each other', { timeout: 120_000 }, async () => {
    const seen = new Set<string>()
    const done = new AbortController()
    const watch = async (): Promise<void> => {
      while (!done.signal.aborted) {
        for (const { name, kind, jobs } of (await json('fra-1', ['agents'])).proxies as Json[])
          if (jobs.length > 0) seen.add(`${kind} ${name}`)
        await systemClock.sleep(150)
      }
    }
    const vms = (from: number): string[] => Array.from({ length: 4 }, (_, index) => `vm${from + index}`)
    const [runs] = await Promise.all([
      session
        .faulty({ on: 'nfc:read', delayMs: 60 }, () => Promise.all(PROXIES.map((name, index) => backup(name, vms(index * 4)))))
        .finally(() => done.abort()),
      watch(),
    ])
    for (const ended of runs) expect(ended.json().vms.map(({ ok }: Json) => ok)).toEqual([true, true, true, true])
    const most = await peaks()
    // Reached, and never passed; each alone would have reached them.
    expect([most['open snapshots on shared'], most['NFC readers of shared']]).toEqual([4, 3])
    expect(seen).toEqual(new Set(PROXIES.map((name) => `command ${name}`)))
    // One catalog, one history, one list of jobs, whichever proxy is asked.
    for (const name of PROXIES) expect((await json(name, ['points'])).points).toHaveLength(12)
    expect((await json('muc-1', ['status', '--all'])).finished.filter(({ kind }: Json) => kind === 'backup')).toHaveLength(12)
    expect((await json('fra-2', ['status'])).limits).toEqual([])
    const [check] = (await json('fra-1', ['doctor'])).findings.filter((finding: Json) => finding.check === 'state database')
    expect(check).toMatchObject({ result: 'ok', detail: expect.stringContaining(`/${database}`) })
  })

  test('never work on one VM at a time', async () => {
    const [one, two] = await session.faulty({ on: 'nfc:read', delayMs: 150 }, async () => {
      const first = backup('fra-1', ['vm1'])
      const isLocked = async (): Promise<boolean> =>
        (await json('muc-1', ['status'])).running.some((job: Json) => job.kind === 'backup' && job.held.length > 1)
      await expect.poll(isLocked, { timeout: 20_000 }).toBe(true)
      return Promise.all([first, backup('fra-2', ['vm1'])])
    })
    expect([one.exit, two.exit]).toEqual([0, 6])
    expect(JSON.stringify(two.json())).toContain('is locked by backup job')
  })

  test('release what a killed one held, half a minute later, and go on with its VM', { timeout: 120_000 }, async () => {
    // Just after the snapshot was made: nothing of it is confirmed.
    const killed = await backup('fra-2', ['vm2'], [{ at: 3, phase: 'before', delayMs: 0, what: 'self', kinds: ['call'] }])
    expect([killed.killed !== undefined, killed.exit]).toEqual([true, undefined])
    const began = systemClock.monotonicMs()
    // Silence alone is not enough, on whichever machine.
    expect((await json('muc-1', ['recover'])).recovered).toEqual([])
    expect((await json('muc-1', ['status'])).running.map(({ kind }: Json) => kind)).toEqual(['run', 'backup'])
    const early = await backup('fra-1', ['vm2'])
    expect(early.exit).toBe(6)
    const isOver = async (): Promise<boolean> => (await json('muc-1', ['recover'])).recovered.length === 2
    await expect.poll(isOver, { timeout: 60_000, interval: 500 }).toBe(true)
    const tookMs = systemClock.monotonicMs() - began
    expect(tookMs).toBeGreaterThan(25_000)
    expect(tookMs).toBeLessThan(60_000)
    expect((await backup('fra-1', ['vm2'])).exit).toBe(0)
    const state = await session.lab.control.state()
    expect(state.vms.flatMap(({ snapshots }) => snapshots)).toEqual([])
    expect((await json('fra-1', ['status'])).running).toEqual([])
    const dead = (await json('fra-1', ['agents', '--all'])).proxies.filter((each: Json) => each.state === 'dead')
    expect(dead).toMatchObject([{ name: 'fra-2', kind: 'command' }])
  })

  test('are drained and resumed by name', async () => {
    expect((await json('fra-1', ['agents', '--drain', 'muc-1'])).drained).toMatchObject([{ name: 'muc-1' }])
    expect((await json('muc-1', ['agents'])).drained).toHaveLength(1)
    expect((await json('fra-1', ['agents', '--resume', 'muc-1'])).drained).toEqual([])
    const refused = async (...argv: readonly string[]): Promise<number> =>
      (await session.vcbWith(environments.get('fra-1') ?? {}, 'agents', ...argv)).exit
    expect([await refused('--resume', 'muc-1'), await refused('--drain', 'nobody')]).toEqual([5, 5])
    expect((await session.vcb('agents')).exit).toBe(2)
  })

  test('say that the database is away, and lose nothing', async () => {
    const going = session.faulty({ on: 'nfc:read', delayMs: 100 }, () => backup('fra-1', ['vm3', 'vm4']))
    await expect.poll(async () => (await json('muc-1', ['status'])).running.length, { timeout: 20_000 }).toBeGreaterThan(0)
    await server.stop('immediate')
    await systemClock.sleep(2_000)
    await server.start()
    const ended = await going
    expect([ended.exit, ended.json().vms.map(({ ok }: Json) => ok)]).toEqual([0, [true, true]])
    expect((await json('muc-1', ['status'])).running).toEqual([])
    expect((await session.lab.control.state()).vms.flatMap(({ snapshots }) => snapshots)).toEqual([])
  })
})
