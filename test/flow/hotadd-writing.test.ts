import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type BlockSink, MIB } from '../../src/core/index.ts'
import { transportClaims } from '../../src/flow/transport-claims.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import { hotaddTransport } from '../../src/transport/index.ts'
import { type HotaddWorld, openAgent, openHotaddWorld } from './hotadd-world.ts'
import type { Json } from './lab-session.ts'

/* A disk of a VM that is off, attached to the proxy VM to be written: what a restore does with its new, empty disk. */
let world: HotaddWorld
beforeAll(async () => {
  world = await openHotaddWorld()
})
afterAll(() => world[Symbol.asyncDispose]())

const attached = async () => (await world.vm('proxy')).disks.filter((disk) => disk.attached)

/** Opens the disk of a VM as the flow of a restore would, and lets `work` write it. */
async function written(name: string, work: (sink: BlockSink) => Promise<void>, more?: Readonly<Record<string, string>>): Promise<void> {
  await using agent = await openAgent(world, more)
  await agent.job('restore', {}, async (claims) => {
    const vsphere = await agent.vsphere()
    const [vm] = await selectVms(vsphere, [name], { bulk: false })
    if (vm === undefined) throw new Error('no VM')
    const config = await describeVm(vsphere, vm)
    const [disk] = config.disks
    if (disk === undefined) throw new Error('no disk')
    const { writing } = hotaddTransport(vsphere, { guest: agent.guest, marks: agent.marks })
    expect(await writing?.probe({ config, disk })).toEqual({ ok: true, note: 'attached to proxy' })
    await using sink = await writing?.open({ config, disk }, { claims: transportClaims(claims, []) })
    if (sink === undefined) throw new Error('hotadd writes no disks')
    expect((await attached()).map(({ fileName }) => fileName)).toEqual([disk.fileName])
    await work(sink)
  })
}

test('what is written is on the disk of that VM, and the disk is given back', async () => {
  const wanted = Buffer.alloc(6 * MIB)
  for (const [offset, length, value] of [
    [0, 512, 1],
    [MIB, 65_536, 2],
    [6 * MIB - 4096, 4096, 3],
  ] as const)
    wanted.fill(value, offset, offset + length)
  await written('off', async (sink) => {
    await sink.write(0, wanted.subarray(0, 512))
    await sink.write(MIB, wanted.subarray(MIB, MIB + 65_536))
    await sink.write(6 * MIB - 4096, wanted.subarray(6 * MIB - 4096))
    await sink.flush()
  })
  const [now] = await world.session.lab.control.sha256('off')
  expect(now?.sha256).toBe(createHash('sha256').update(wanted).digest('hex'))
  await world.expectNothingLeft()
})

test('a restore as a new VM writes its disks this way', async () => {
  const { session } = world
  const [point] = (await world.backup(['one', '--mode', 'full'])).vms
  const made = await session.json(['restore', point.point, '--to-vcenter', '--name', 'copy', '--transport', 'hotadd'])
  expect(made.disks.map((disk: Json) => disk.transport)).toEqual(['hotadd'])
  const [copy] = await session.lab.control.sha256('copy')
  expect(copy?.sha256).toBe((await session.lab.control.digestsAtSnapshot('one')).at(-1)?.disks[0]?.sha256)
  await world.expectNothingLeft()
}, 120_000)
