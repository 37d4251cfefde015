import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { MIB, systemClock } from '../../src/core/index.ts'
import { type Json, type LabSession, openLabSession, readLog } from './lab-session.ts'

/* Redo logs fill the datastore of the running VM. A backup is refused or ended before they do; the guests never notice. */
const vm = (name: string, datastore: string): object => ({
  name,
  datastore,
  changeTracking: true,
  // A real host stuns a VM the moment its datastore is full; the lab's guest stops writing and is seen as stalled.
  disks: [{ size: '384MiB', content: 'random' }],
})
const scenario = {
  name: 'space',
  seed: 11,
  datacenters: [
    {
      name: 'DC1',
      hosts: [{ name: 'esx1.lab' }],
      datastores: [
        { name: 'ds1', type: 'VMFS6' },
        { name: 'ds2', type: 'VMFS6' },
      ],
      vms: [vm('large', 'ds1'), vm('small', 'ds1'), vm('elsewhere', 'ds2')],
    },
  ],
}
const TIB = 2 ** 40

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
  const config = join(session.directory, 'vcb.yaml')
  await writeFile(config, 'space:\n  reserve: 48MiB\n  interval: 500ms\nparallel: 3\n')
  session.environment['VCB_CONFIG'] = config
  await session.json(['init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})
beforeEach(() => session.lab.control.capacity('ds1', TIB))
afterEach(async () => {
  await session.lab.control.clearFaults()
})

const store = async () => {
  const found = (await session.lab.control.state()).datastores.find(({ name }) => name === 'ds1')
  if (found === undefined) throw new Error('no ds1')
  return { ...found, freeBytes: found.capacityBytes - found.usedBytes }
}
const leave = async (bytes: number): Promise<void> => session.lab.control.capacity('ds1', (await store()).usedBytes + bytes)
const stateOf = async (name: string) => {
  const found = (await session.lab.control.state()).vms.find((each) => each.name === name)
  if (found === undefined) throw new Error(`no VM ${name}`)
  return found
}
const outcome = (run: Json, name: string): Json => run.vms.find((each: Json) => each.vm.name === name)

/** The guest writes `bytes` at a time to places it never wrote to, as soon as there is a snapshot, until `ended`. The least free space seen. */
async function writing(name: string, bytes: number, pauseMs: number, ended: Promise<unknown>): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  const over = new AbortController()
  const watched = ended.catch(() => undefined).finally(() => over.abort())
  let at = 64 * MIB
  while (!over.signal.aborted) {
    if ((await stateOf(name)).snapshots.length > 0 && at + bytes < 380 * MIB) {
      await session.lab.control.write(name, { areas: [{ offset: at, length: bytes }] })
      at += bytes
    }
    least = Math.min(least, (await store()).freeBytes)
    await systemClock.sleep(pauseMs)
  }
  await watched
  return least
}

describe('the free space of a datastore', () => {
  test('too little before the run: the VM is refused before anything is taken, with numbers; VMs elsewhere go on', async () => {
    await leave(60 * MIB)
    const tasks = async (): Promise<number> => (await session.lab.control.digestsAtSnapshot('large')).length
    const before = await tasks()
    const run = await session.json(['backup', 'large', 'elsewhere'], 12)
    expect(outcome(run, 'elsewhere')).toMatchObject({ ok: true })
    const { error } = outcome(run, 'large')
    expect(error).toMatchObject({ code: 'CAPACITY', exit: 10, subject: 'ds1' })
    expect(error.message).toMatch(
      /The datastore ds1 has 6\d(\.\d)? MiB free: the redo logs of large may take \d.* and 48.0 MiB must stay free/,
    )
    expect(error.next).toContain('--space-reserve')
    expect(await tasks()).toBe(before)
    await session.expectClean()
    expect((await session.json(['backup', 'large'], 10)).vms[0].error.code).toBe('CAPACITY')
    // Who knows better may say so.
    expect((await session.json(['backup', 'large', '--no-space-guard'])).vms[0].ok).toBe(true)
  })

  test('filled by the guest’s writes during the run: ended in order before it is full, the guest is not stunned, nothing is left', async () => {
    await leave(300 * MIB)
    const points = (await session.json(['points'])).points.length
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 400 })
    const backup = session.json(['backup', 'large', '--mode', 'full', '--transport', 'https'], 10)
    const [run, least] = await Promise.all([backup, writing('large', 2 * MIB, 100, backup)])
    expect(run.vms[0].error).toMatchObject({ code: 'CAPACITY', subject: 'ds1', message: expect.stringContaining('is filling up') })
    expect(run.vms[0].error.message).toContain('the backup of large, whose redo logs are the largest')
    expect(least).toBeGreaterThan(0)
    expect((await stateOf('large')).stalled).toBe(false)
    expect((await session.json(['points'])).points).toHaveLength(points)
    expect(await readLog(session)).toContain('ending a backup so that its datastore does not fill up')
    await session.expectClean()
    // What the guest wrote meanwhile is in its disk.
    expect((await session.lab.control.fsck('large')).ok).toBe(true)
  })

  test('two VMs on one datastore: the larger redo log goes first, the other backup succeeds', async () => {
    await leave(340 * MIB)
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 200 })
    const backup = session.json(['backup', 'large', 'small', '--mode', 'full', '--transport', 'https'], 12)
    const [run, least] = await Promise.all([backup, writing('large', 2 * MIB, 100, backup), writing('small', MIB, 400, backup)])
    expect(outcome(run, 'large')).toMatchObject({ ok: false, error: { code: 'CAPACITY' } })
    expect(outcome(run, 'small')).toMatchObject({ ok: true })
    expect(least).toBeGreaterThan(0)
    await session.expectClean()
  })

  test('a query that fails ends nothing: the backup succeeds with a warning', async () => {
    await session.lab.control.fault({ on: 'RefreshDatastore', fault: 'RuntimeFault' })
    const run = await session.json(['backup', 'small'])
    expect(run.vms[0].ok).toBe(true)
    expect(run.vms[0].warnings.join()).toContain('Free space on the datastores could not be asked for')
    await session.lab.control.clearFaults()
    // Also when only the later looks fail.
    await session.lab.control.fault({ on: 'RefreshDatastore', fault: 'RuntimeFault', probability: 0.9 })
    await session.lab.control.fault({ on: 'folder:GET', object: '*-flat.vmdk', delayMs: 200 })
    expect((await session.json(['backup', 'small', '--mode', 'full', '--transport', 'https'])).vms[0].ok).toBe(true)
    await session.expectClean()
  })
})
