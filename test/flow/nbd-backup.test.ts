import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { FaultRule } from '../../src/lab/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

const scenario = {
  taskMs: 0,
  recordDigests: true,
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: [
        { name: 'v6', type: 'VMFS6' },
        { name: 'v5', type: 'VMFS5' },
      ],
      vms: [
        {
          name: 'web',
          datastore: 'v6',
          changeTracking: true,
          disks: [{ size: '16MiB', content: 'random' }, { size: '8MiB' }, { size: '12MiB', datastore: 'v5', content: 'random' }],
        },
        { name: 'one', datastore: 'v5', changeTracking: true, disks: [{ size: '24MiB', content: 'random' }] },
      ],
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
})
afterAll(() => session[Symbol.asyncDispose]())

/** `vcb backup … --json` with no datastore mounted. */
async function backup(...argv: readonly string[]): Promise<Json> {
  const result = await session.vcbWith({ VCB_DATASTORES: undefined }, 'backup', ...argv, '--init', '--json')
  expect({ exit: result.exit, err: result.err, out: result.exit === 0 ? '' : result.out }).toEqual({ exit: 0, err: '', out: '' })
  return result.json().vms[0]
}

/** Neither a snapshot nor anything of NFC is left. */
async function expectNothingLeft(): Promise<void> {
  await session.expectClean()
  const { nfc, locks } = await session.lab.control.state()
  expect([nfc.sessions, nfc.memoryBytes, locks.filter((lock) => lock.holder.startsWith('NFC'))]).toEqual([[], 0, []])
}

describe('a backup over NFC', () => {
  for (const transport of ['nbdssl', 'nbd'] as const) {
    test(`${transport}: full and incremental of several disks are what the guest had`, async () => {
      const full = await backup('web', '--mode', 'full', '--transport', transport)
      expect(full.disks.map((disk: Json) => [disk.mode, disk.transport, disk.refused])).toEqual(
        full.disks.map(() => ['full', transport, []]),
      )
      expect(full.disks).toHaveLength(3)
      await session.expectRight('web', full.point)
      for (const disk of (await session.lab.control.sha256('web')).slice(0, 3))
        await session.lab.control.write('web', { percent: 3, unit: 65_536, disk: disk.key })
      const next = await backup('web', '--mode', 'incremental', '--transport', transport)
      expect(next.disks.map((disk: Json) => [disk.mode, disk.transport])).toEqual(next.disks.map(() => ['incremental', transport]))
      await session.expectRight('web', next.point)
      await expectNothingLeft()
    })
  }

  test('is what a proxy without mounted datastores does by itself', async () => {
    const vm = await backup('one', '--mode', 'full')
    expect(vm.disks[0]).toMatchObject({ transport: 'nbdssl', refused: [{ transport: 'san' }, { transport: 'hotadd' }] })
    const point = await session.json(['show', vm.point])
    expect(JSON.stringify(point)).toContain('"nbdssl"')
    await expectNothingLeft()
  })

  test('goes over https when the host’s NFC service refuses', async () => {
    for (const rule of [
      { on: 'nfc:greeting', nfc: 'maintenance' },
      { on: 'nfc:proxy', nfc: 'expired' },
      { on: 'nfc:open', nfc: 'wrongCapacity' },
      { on: 'nfc:key', object: 'uuid', nfc: 'wrongValue' },
      { on: 'Nfc*', fault: 'NoPermission' },
    ] as const satisfies readonly FaultRule[]) {
      const vm = await session.faulty(rule, () => backup('one', '--mode', 'full', '--transport', 'nbdssl:https'))
      expect([rule, vm.disks[0].transport, vm.disks[0].refused.map((each: Json) => each.transport)]).toEqual([rule, 'https', ['nbdssl']])
    }
    await expectNothingLeft()
  })

  test('a cut connection is resumed over the same transport with a new ticket', async () => {
    for (const transport of ['nbdssl', 'nbd']) {
      const rule: FaultRule = { on: 'nfc:read', nth: 6, cut: 'before' }
      const vm = await session.faulty(rule, () => backup('one', '--mode', 'full', '--transport', `${transport}:https`))
      expect(vm.disks[0]).toMatchObject({ transport, refused: [], resumed: 1 })
      await session.expectRight('one', vm.point)
    }
    await expectNothingLeft()
  })

  test('doctor shows the service of each host, and what keeps it away', async () => {
    const findings = async (): Promise<Json[]> =>
      (await session.vcb('doctor', '--json')).json().findings.filter((each: Json) => each.check.startsWith('NFC of'))
    expect(await findings()).toEqual([
      { check: 'NFC of esx1', result: 'ok', detail: expect.stringMatching(/^nbdssl at 127\.0\.0\.1:\d+$/) },
    ])
    await session.faulty({ on: 'nfc:greeting', nfc: 'maintenance' }, async () =>
      expect(await findings()).toMatchObject([{ check: 'NFC of esx1', result: 'warning', next: expect.stringContaining('902') }]),
    )
    await expectNothingLeft()
  })
})
