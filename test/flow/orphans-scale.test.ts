import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/* The number of calls follows the datastores and what is found, not the VMs. */
const VMS = 2000
let session: LabSession

beforeAll(async () => {
  session = await openLabSession({
    scenario: {
      name: 'orphans-scale',
      seed: 5,
      datacenters: [
        {
          name: 'DC1',
          clusters: [{ name: 'C1', hosts: [{ name: 'esx1.lab' }] }],
          networks: ['VM Network'],
          datastores: [
            { name: 'vmfs1', type: 'VMFS6', capacity: '8TiB' },
            { name: 'nfs1', type: 'NFS', capacity: '8TiB' },
          ],
          vms: [{ name: 'one', datastore: 'nfs1', power: 'poweredOff', disks: [{ size: '32MiB', content: 'random' }] }],
          generate: [{ count: VMS, prefix: 'gen-', datastore: 'vmfs1' }],
        },
      ],
    },
  })
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

/** Calls that the command's session made. */
async function callsOf(...argv: readonly string[]): Promise<number> {
  const before = new Set((await session.lab.control.state()).sessions.map((one) => JSON.stringify(one)))
  // A session ends with its command, so its calls are counted while the last one, Logout, is held back.
  await session.lab.control.fault({ on: 'Logout', delayMs: 1500 })
  const running = session.json(argv).then(() => 'done')
  let most = 0
  for (let state = 'running'; state !== 'done'; state = await Promise.race([running, systemClock.sleep(100).then(() => 'running')])) {
    for (const one of (await session.lab.control.state()).sessions) if (!before.has(JSON.stringify(one))) most = Math.max(most, one.calls)
  }
  await session.lab.control.clearFaults()
  return most
}

describe(`a vCenter with ${VMS} VMs`, () => {
  test('is searched with a bounded number of calls', async () => {
    expect((await session.lab.control.state()).vmCount).toBe(VMS + 1)
    const calls = await callsOf('orphans')
    console.log(`vcb orphans over ${VMS + 1} VMs: ${calls} calls`)
    expect(calls).toBeGreaterThan(10)
    expect(calls).toBeLessThanOrEqual(60)
  })

  test('and for stray files with a page of lists for each fifty VMs', async () => {
    // Without a candidate the lists of files would not be read at all.
    const directory = join(session.lab.datastores['vmfs1'] ?? '', 'forgotten')
    await mkdir(directory)
    await writeFile(join(directory, 'gone-000001.vmdk'), 'a redo log')
    const calls = await callsOf('orphans', '--files')
    console.log(`vcb orphans --files over ${VMS + 1} VMs: ${calls} calls`)
    expect(calls).toBeGreaterThan(VMS / 50)
    expect(calls).toBeLessThanOrEqual(60 + 60 + VMS / 50)
    expect((await session.json(['orphans', '--files'])).files).toMatchObject([{ path: '[vmfs1] forgotten/gone-000001.vmdk', recent: true }])
  })
})
