import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { type Ended, runCommand, type Strike } from '../storm/command.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* Limits that several processes of one proxy keep together, and those of a restore. The lab counts. */

const disk = { size: '8MiB', content: 'random' }
const vm = (name: string, datastore: string, disks = 1): object => ({
  name,
  datastore,
  changeTracking: true,
  disks: Array.from({ length: disks }, () => disk),
})
const scenario = {
  taskMs: 20,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }, { name: 'esx2' }],
      datastores: ['shared', 'one', 'two', 'three'].map((name) => ({ name, type: 'VMFS6' })),
      vms: [...[1, 2, 3, 4, 5, 6].map((index) => vm(`vm${index}`, 'shared')), vm('many', 'one', 3)],
    },
  ],
}

let session: LabSession
let many: Json
beforeAll(async () => {
  session = await openLabSession({ scenario })
  await session.json(['init'])
  const run = await session.json(['backup', 'many', '--mode', 'full', '--transport', 'nbdssl'])
  many = run.vms[0]
})
afterAll(() => session[Symbol.asyncDispose]())

const configured = async (limits: object): Promise<string> => {
  const path = join(await mkdtemp(join(session.directory, 'config-')), 'vcb.yaml')
  await writeFile(path, JSON.stringify({ limits }))
  return path
}
const peaks = async (): Promise<Readonly<Record<string, number>>> => (await session.lab.control.state()).peaks
/** Tokens in the state database, dead owners' too. */
const rows = (): number => {
  const database = new DatabaseSync(join(session.environment['VCB_STATE_DIR'] ?? '', 'state.sqlite'), { readOnly: true })
  try {
    return database.prepare('SELECT id FROM limit_token').all().length
  } finally {
    database.close()
  }
}
/** `vcb backup` over nbdssl in a process of its own. */
const process = (config: string, vms: readonly string[], strikes: readonly Strike[] = []): Promise<Ended> =>
  runCommand(
    ['backup', ...vms, '--mode', 'full', '--transport', 'nbdssl', '--parallel', '3', '--config', config, '--json'],
    session.environment,
    { strikes, boundMs: 90_000 },
  )

describe('two processes of one proxy', () => {
  test('have together no more snapshots, streams and NFC connections than one may have, and both come through', async () => {
    const config = await configured({ snapshotsPerDatastore: 3, streamsPerDatastore: 2, nfcPerVcenter: 2 })
    const seen = { pids: new Set<number>(), waits: 0 }
    const done = new AbortController()
    const watch = async (): Promise<void> => {
      while (!done.signal.aborted) {
        for (const { limit, uses } of (await session.json(['status'])).limits) {
          expect(uses.filter(({ waits }: Json) => !waits).length).toBeLessThanOrEqual(limit)
          for (const { pid, waits } of uses) {
            seen.pids.add(pid)
            if (waits) seen.waits++
          }
        }
        await systemClock.sleep(100)
      }
    }
    const [runs] = await Promise.all([
      session
        .faulty({ on: 'nfc:read', delayMs: 60 }, () =>
          Promise.all([process(config, ['vm1', 'vm2', 'vm3']), process(config, ['vm4', 'vm5', 'vm6'])]),
        )
        .finally(() => done.abort()),
      watch(),
    ])
    for (const run of runs) expect(run.json().vms.map(({ ok }: Json) => ok)).toEqual([true, true, true])
    const most = await peaks()
    // Reached, and never passed; each alone would have reached them.
    expect([most['open snapshots on shared'], most['NFC readers of shared']]).toEqual([3, 2])
    const through = Object.entries(most).filter(([what]) => what.startsWith('NFC sessions through'))
    expect(through.map(([, count]) => count)).toEqual([2])
    expect(seen.pids.size).toBe(2)
    expect(seen.waits).toBeGreaterThan(0)
    expect((await session.json(['status'])).limits).toEqual([])
    await session.expectClean()
  })

  test('what a killed one had of a limit is there for the next', async () => {
    const config = await configured({ snapshotsPerDatastore: 1, streamsPerDatastore: 1, nfcPerVcenter: 1 })
    const killed = await process(config, ['vm1'], [{ at: 3, phase: 'before', delayMs: 0, what: 'self', kinds: ['call'] }])
    expect([killed.killed !== undefined, killed.exit]).toEqual([true, undefined])
    expect([(await session.json(['status'], 12)).limits, rows() > 0]).toEqual([[], true])
    const next = await process(config, ['vm2'])
    expect(rows()).toBe(0)
    expect(next.json().vms.map(({ ok }: Json) => ok)).toEqual([true])
    await session.json(['recover'])
    await session.expectClean()
  })
})

describe('a restore', () => {
  const restore = async (limits: object, name: string, datastore: string, transport: string): Promise<Json> => {
    const place = ['--to-vcenter', '--name', name, '--to-datastore', datastore, '--transport', transport]
    const restored = await session.json(['restore', many.point, ...place, '--config', await configured(limits)])
    const digests = async (which: string) => new Map((await session.lab.control.sha256(which)).map(({ label, sha256 }) => [label, sha256]))
    expect(await digests(restored.vm.moref)).toEqual(await digests('many'))
    return restored
  }

  test('writes as many disks of a datastore at once as streams are allowed', async () => {
    await session.faulty({ on: 'nfc:write', delayMs: 30 }, async () => {
      await restore({}, 'wide', 'two', 'nbdssl')
      await restore({ streamsPerDatastore: 1 }, 'narrow', 'three', 'nbdssl')
    })
    const most = await peaks()
    expect([most['NFC writers of two'], most['NFC writers of three']]).toEqual([3, 1])
    await session.expectClean()
  })

  test('keeps to the NFC sessions of a host, and says what it waits for', async () => {
    const waits = new Set<string>()
    const done = new AbortController()
    const watch = async (): Promise<void> => {
      while (!done.signal.aborted) {
        for (const job of (await session.json(['status'])).running) if (job.waitsFor !== undefined) waits.add(job.waitsFor)
        await systemClock.sleep(50)
      }
    }
    const before = (await peaks())['NFC writers of one'] ?? 0
    const slow = session.faulty({ on: 'nfc:write', delayMs: 80 }, () => restore({ nfcPerHost: 1 }, 'few', 'one', 'nbdssl'))
    await Promise.all([slow.finally(() => done.abort()), watch()])
    expect([before, (await peaks())['NFC writers of one']]).toEqual([0, 1])
    expect(waits.size).toBeGreaterThan(0)
    for (const wait of waits) expect(wait).toMatch(/^waits for one of the NFC sessions of host .*: 1 of 1 in use by few scsi0:\d$/)
    await session.expectClean()
  })

  /* `least`: what is certainly sent: files are sent whole, else what holds data, and is compressed for a lease. The first piece of all, 4 MiB at most, is free. */
  test.each([
    ['nbdssl', 1, 4],
    ['lease', 0.5, 2],
    ['https', 4, 20],
  ])('over %s is no faster than a bandwidth of %d MiB/s', async (transport, rate, least) => {
    const since = systemClock.monotonicMs()
    await restore({ bandwidth: `${rate}MiB/s` }, `slow by ${transport}`, 'two', transport)
    expect((systemClock.monotonicMs() - since) / 1000).toBeGreaterThan((least / rate) * 0.9)
    await session.expectClean()
  })
})
