import { afterAll, beforeAll, expect, test } from 'vitest'
import { type HotaddWorld, openHotaddWorld } from './hotadd-world.ts'

let world: HotaddWorld
beforeAll(async () => {
  world = await openHotaddWorld()
})
afterAll(() => world[Symbol.asyncDispose]())

test.each(['hotadd', 'hotadd:nbdssl'])(
  'a restore over %s attaches the new disk to the proxy, and what it writes is what the guest had',
  async (transports) => {
    const { session } = world
    const [point] = (await world.backup(['one', '--mode', 'full'])).vms
    const name = `copy by ${transports}`
    const restored = await session.json([
      'restore',
      point.point,
      '--to-vcenter',
      '--name',
      name,
      '--to-datastore',
      'v6',
      '--transport',
      transports,
    ])
    expect(restored.disks).toMatchObject([{ transport: 'hotadd', thin: true, refused: [] }])
    expect(restored.disks[0].writtenBytes).toBeLessThan(restored.disks[0].capacityBytes)
    const wanted = (await session.lab.control.digestsAtSnapshot('one')).at(-1)?.disks.map(({ sha256 }) => sha256)
    expect((await session.lab.control.sha256(restored.vm.moref)).map(({ sha256 }) => sha256)).toEqual(wanted)
    await world.expectNothingLeft()
  },
)

test('where the proxy cannot have the disk, the next transport writes it', async () => {
  const { session } = world
  const [point] = (await world.backup(['one', '--mode', 'full'])).vms
  const restore = ['restore', point.point, '--to-vcenter', '--name', 'by another', '--to-datastore', 'v6', '--transport', 'hotadd:nbdssl']
  const rule = { on: 'ReconfigVM_Task', object: 'proxy', taskError: 'ResourceInUse' } as const
  const restored = await world.faulty(rule, () => session.json(restore))
  expect(restored.disks).toMatchObject([{ transport: 'nbdssl', refused: [{ transport: 'hotadd' }] }])
  const wanted = (await session.lab.control.digestsAtSnapshot('one')).at(-1)?.disks.map(({ sha256 }) => sha256)
  expect((await session.lab.control.sha256(restored.vm.moref)).map(({ sha256 }) => sha256)).toEqual(wanted)
  await world.expectNothingLeft()
})
