import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MIB, systemClock } from '../../src/core/index.ts'
import type { FaultRule } from '../../src/lab/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* What one agent takes of datastores, hosts and the vCenter at most. The lab counts. */

/** An eighth of it is written. */
const disk = { size: '16MiB', content: 'random' }
const scenario = {
  taskMs: 50,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [
        { name: 'slow', type: 'VMFS6' },
        { name: 'wide', type: 'VMFS6' },
        { name: 'large', type: 'VMFS6' },
      ],
      vms: [
        ...Array.from({ length: 6 }, (_, index) => ({
          name: `vm${index + 1}`,
          datastore: 'slow',
          changeTracking: true,
          disks: index % 2 === 0 ? [disk, { ...disk, datastore: 'wide' }] : [disk],
        })),
        { name: 'many', datastore: 'wide', changeTracking: true, disks: Array.from({ length: 5 }, () => disk) },
        { name: 'big', datastore: 'large', changeTracking: true, disks: [{ size: '256MiB', content: 'random' }] },
        { name: 'calm', datastore: 'large', changeTracking: true, disks: [{ size: '128MiB', content: 'random' }] },
      ],
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
  await session.json(['init'])
})
afterAll(() => session[Symbol.asyncDispose]())

/** A configuration file with these limits. */
async function configured(limits: object): Promise<string> {
  const path = join(await mkdtemp(join(session.directory, 'config-')), 'vcb.yaml')
  await writeFile(path, JSON.stringify({ limits }))
  return path
}

/** `vcb backup … --json` over nbdssl alone, with these limits. */
async function backup(limits: object, ...argv: readonly string[]): Promise<Json> {
  const config = await configured(limits)
  return session.json(['backup', ...argv, '--transport', 'nbdssl', '--config', config])
}

const peaks = async (): Promise<Readonly<Record<string, number>>> => (await session.lab.control.state()).peaks

async function faulty<T>(rule: FaultRule, work: () => Promise<T>): Promise<T> {
  const id = await session.lab.control.fault(rule)
  try {
    return await work()
  } finally {
    await session.lab.control.clearFaults(id)
  }
}

describe('limits', () => {
  test('six VMs at once: a datastore never sees more than two of our snapshots and two of our readers', async () => {
    const limits = { snapshotsPerDatastore: 2, streamsPerDatastore: 2, disksPerVm: 2 }
    const run = await faulty({ on: 'nfc:read', delayMs: 20 }, () => backup(limits, 'vm*', '--mode', 'full', '--parallel', '6'))
    expect(run.vms.map((vm: Json) => vm.ok)).toEqual(run.vms.map(() => true))
    expect(run.vms).toHaveLength(6)
    const seen = await peaks()
    // Reached, and never passed.
    expect([seen['open snapshots on slow'], seen['NFC readers of slow']]).toEqual([2, 2])
    expect(seen['open snapshots on wide']).toBeLessThanOrEqual(2)
    await session.expectClean()
  })

  test('a wait longer than a moment is in status with who is in the way, and gone when it is over', async () => {
    const limits = { snapshotsPerDatastore: 1 }
    const running = faulty({ on: 'nfc:read', delayMs: 120 }, () => backup(limits, 'vm2', 'vm4', '--mode', 'full', '--parallel', '2'))
    let waits: Json
    while (waits === undefined) {
      const report = await session.json(['status'])
      waits = report.running.find((job: Json) => job.waitsFor !== undefined)
      if (waits === undefined) await systemClock.sleep(50)
    }
    expect(waits.waitsFor).toMatch(/^waits for one of the open snapshots of datastore slow: 1 of 1 in use by vm[24]$/)
    expect((await session.vcb('status')).out).toContain('waits for one of the open snapshots of datastore slow')
    const run = await running
    expect(run.vms.map((vm: Json) => vm.ok)).toEqual([true, true])
    expect((await session.json(['status'])).running).toEqual([])
    await session.expectClean()
  })

  test('disks of one VM are read side by side where the destination takes that, and never over the sessions of its host', async () => {
    const before = (await peaks())['NFC sessions of esx1'] ?? 0
    const run = await faulty({ on: 'nfc:read', delayMs: 20 }, () =>
      backup({ disksPerVm: 5, streamsPerDatastore: 5, nfcPerHost: 3 }, 'many', '--mode', 'full'),
    )
    expect(run.vms[0].disks.map((each: Json) => each.label)).toEqual(['scsi0:0', 'scsi0:1', 'scsi0:2', 'scsi0:3', 'scsi0:4'])
    const seen = await peaks()
    expect(seen['NFC sessions of esx1']).toBe(Math.max(before, 3))
    expect(seen['NFC readers of wide']).toBeGreaterThanOrEqual(2)
    const wide = await session.json(['check', run.vms[0].point])
    expect(wide.problems).toEqual([])
    await session.expectClean()
  })

  test('one session of the host is enough, also when its connection is cut and opened again', async () => {
    const run = await faulty({ on: 'nfc:read', nth: 3, cut: 'before' }, () =>
      backup({ nfcPerHost: 1, disksPerVm: 3 }, 'many', '--mode', 'full'),
    )
    expect(run.vms[0].disks.reduce((sum: number, each: Json) => sum + (each.resumed ?? 0), 0)).toBe(1)
    await session.expectClean()
  })

  test('disks side by side over an export lease wait for each other: a VM has one lease at a time', async () => {
    const config = await configured({ disksPerVm: 5, streamsPerDatastore: 5 })
    const run = await session.json(['backup', 'many', '--mode', 'full', '--transport', 'lease', '--config', config])
    for (const each of run.vms[0].disks) expect(each).toMatchObject({ transport: 'lease', refused: [] })
    await session.expectClean()
  })

  test('a canceled backup that waits takes nothing and leaves nothing', async () => {
    const running = faulty({ on: 'nfc:read', delayMs: 120 }, async () => {
      const config = await configured({ snapshotsPerDatastore: 1 })
      return session.vcb('backup', 'vm2', 'vm4', '--parallel', '2', '--mode', 'full', '--transport', 'nbdssl', '--config', config, '--json')
    })
    let waiting: Json
    while (waiting === undefined) {
      waiting = (await session.json(['status'])).running.find((job: Json) => job.waitsFor !== undefined)
      if (waiting === undefined) await systemClock.sleep(50)
    }
    await session.json(['cancel', waiting.job, '--wait'])
    const ended = await running
    expect(ended.exit).toBe(12)
    const byName = new Map<string, Json>(ended.json().vms.map((vm: Json) => [vm.vm.name, vm]))
    expect(byName.get(waiting.subject)).toMatchObject({ ok: false, error: { code: 'CANCELED' } })
    expect([...byName.values()].filter((vm) => vm.ok)).toHaveLength(1)
    await session.expectClean()
  })
})

describe('the bandwidth', () => {
  test('is kept within a fifth over seconds', async () => {
    const rate = 8 * MIB
    const since = systemClock.monotonicMs()
    const run = await session.json(['backup', 'big', '--mode', 'full', '--transport', 'nbdssl', '--bandwidth', '8MiB/s'])
    const [big] = run.vms[0].disks
    expect(big.readBytes).toBeGreaterThan(24 * MIB)
    const measured = (big.readBytes / big.readMs) * 1000
    expect([measured > rate * 0.8, measured < rate * 1.2, systemClock.monotonicMs() - since > 3000]).toEqual([true, true, true])
    await session.expectClean()
  })
})

describe('a slow datastore', () => {
  test('is read with fewer requests, goes back to many when it is quick again, and what is read is right', async () => {
    const config = await configured({ latency: '20ms' })
    const log = join(session.directory, 'slow.log')
    const environment = { VCB_LOG_LEVEL: 'info', VCB_LOG_FILE: log }
    const argv = ['backup', 'calm', '--mode', 'full', '--transport', 'nbdssl', '--config', config, '--json']
    const run = (await faulty({ on: 'nfc:read', times: 60, delayMs: 60 }, () => session.vcbWith(environment, ...argv))).json()
    expect(run.vms[0]).toMatchObject({ ok: true })
    const states = (await readFile(log, 'utf8'))
      .split('\n')
      .filter((line) => line.includes('follows its latency'))
      .map((line) => JSON.parse(line) as { window: number; datastore: string; medianMs: number })
    const windows = states.map(({ window }) => window)
    expect(states[0]).toMatchObject({ datastore: 'large', window: 16 })
    const least = windows.indexOf(Math.min(...windows))
    expect(windows[least]).toBeLessThanOrEqual(4)
    expect(Math.max(...windows.slice(least))).toBeGreaterThan(windows[least] ?? 0)
    expect((await session.json(['check', run.vms[0].point])).problems).toEqual([])
    await session.expectClean()
  })
})
