import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type HotaddWorld, openHotaddWorld } from './hotadd-world.ts'
import type { Json } from './lab-session.ts'

/* A proxy VM that has nothing but an NVMe controller, and VMs whose disks are on NVMe and SATA controllers. */
const namespaces = (count: number, bus = 0): object[] => Array.from({ length: count }, () => ({ size: '64KiB', controller: 'nvme', bus }))
const mixed = {
  name: 'mixed',
  datastore: 'v6',
  changeTracking: true,
  disks: [
    { size: '6MiB', controller: 'nvme', content: 'random' },
    { size: '4MiB', controller: 'nvme', bus: 1, unit: 3, content: 'random' },
    { size: '5MiB', controller: 'sata', unit: 2, content: 'random' },
    { size: '3MiB', controller: 'lsisas', content: 'random' },
  ],
}
const LABELS = ['nvme0:0', 'nvme1:3', 'sata0:2', 'scsi0:0']
const placesOf = (vm: Json): readonly string[] => vm.disks.map(({ label, controller }: Json) => `${label} ${controller}`).toSorted()

let world: HotaddWorld
beforeAll(async () => {
  world = await openHotaddWorld({ proxyDisks: namespaces(1), vms: [mixed] })
})
afterAll(() => world[Symbol.asyncDispose]())

describe('a proxy VM with an NVMe controller alone', () => {
  test('reads disks of every kind of controller, full and changed; none is added', async () => {
    const full = (await world.backup(['mixed', '--mode', 'full'])).vms[0]
    expect(full.disks.map((disk: Json) => [disk.label, disk.transport, disk.refused])).toEqual(LABELS.map((label) => [label, 'hotadd', []]))
    await world.expectRight('mixed', full)
    for (const disk of await world.session.lab.control.sha256('mixed'))
      await world.session.lab.control.write('mixed', { percent: 3, unit: 65_536, disk: disk.key })
    const next = (await world.backup(['mixed', '--mode', 'incremental'])).vms[0]
    expect(next.disks.map((disk: Json) => [disk.mode, disk.transport])).toEqual(LABELS.map(() => ['incremental', 'hotadd']))
    await world.expectRight('mixed', next)
    expect((await world.vm('proxy')).disks.map(({ label }) => label)).toEqual(['nvme0:0'])
    await world.expectNothingLeft()
  })

  test.each(['hotadd', 'https', 'lease'])(
    'gives a VM that is restored over %s disks on the controllers they were on',
    async (transport) => {
      const { session } = world
      const [point] = (await world.backup(['mixed', '--mode', 'full'])).vms
      const place = ['--to-vcenter', '--name', `again by ${transport}`, '--to-datastore', 'v6']
      const restored = await session.json(['restore', point.point, ...place, '--transport', transport])
      expect(restored.disks.map((disk: Json) => [disk.label, disk.transport])).toEqual(LABELS.map((label) => [label, transport]))
      const places = ['nvme0:0 nvme', 'nvme1:3 nvme', 'sata0:2 sata', 'scsi0:0 lsisas']
      expect([placesOf(await world.vm('mixed')), placesOf(await world.vm(restored.vm.name))]).toEqual([places, places])
      const byLabel = (disks: readonly Json[]): Json => Object.fromEntries(disks.map(({ label, sha256 }) => [label, sha256]))
      const wanted = (await session.lab.control.digestsAtSnapshot('mixed')).at(-1)?.disks ?? []
      expect(byLabel(await session.lab.control.sha256(restored.vm.moref))).toEqual(byLabel(wanted))
      await world.expectNothingLeft()
    },
  )

  test.each(['wrongDisk', 'wrongSize', 'never'] as const)('whose guest shows %s: another transport reads', async (hotadd) => {
    const run = await world.faulty({ on: 'hotadd:attach', hotadd }, () =>
      world.backup(['one', '--mode', 'full', '--transport', 'hotadd:nbdssl']),
    )
    expect(run.vms[0].disks).toMatchObject([{ transport: 'nbdssl', refused: [{ transport: 'hotadd' }] }])
    await world.expectRight('one', run.vms[0])
    await world.expectNothingLeft()
  })

  test('whose guest shows a namespace only when its controller is asked, serves', async () => {
    const run = await world.faulty({ on: 'hotadd:attach', hotadd: 'scan' }, () => world.backup(['one', '--mode', 'full']))
    expect(run.vms[0].disks).toMatchObject([{ transport: 'hotadd' }])
    await world.expectNothingLeft()
  })

  test('whose guest shows no uuid of its own namespace gets a ParaVirtual controller instead', async () => {
    const { guest } = await world.vm('proxy')
    const own = join(guest?.sysfs ?? '', 'block', 'nvme0n1')
    await writeFile(join(own, 'wwid'), 'nvme.15ad-564d57617265204e564d455f30303030-564d77617265-00000001\n')
    await writeFile(join(own, 'nguid'), '00000000-0000-0000-0000-000000000000\n')
    const run = await world.backup(['one', '--mode', 'full'])
    expect(run.vms[0].disks).toMatchObject([{ transport: 'hotadd', refused: [] }])
    await world.expectRight('one', run.vms[0])
    await world.expectNothingLeft()
  })
})

test('a proxy VM whose SCSI and NVMe controllers are all full is passed over, with the reason', async () => {
  const scsi = [0, 1, 2, 3].flatMap((bus) => Array.from({ length: 15 }, () => ({ size: '64KiB', bus })))
  await using full = await openHotaddWorld({ proxyDisks: [...scsi, ...namespaces(15)] })
  const run = await full.backup(['one', '--mode', 'full', '--transport', 'hotadd:nbdssl'])
  expect(run.vms[0].disks).toMatchObject([
    { transport: 'nbdssl', refused: [{ transport: 'hotadd', reason: 'the proxy VM proxy has no SCSI or NVMe slot free' }] },
  ])
  await full.expectNothingLeft()
})
