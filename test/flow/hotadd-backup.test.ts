import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type HotaddWorld, openHotaddWorld } from './hotadd-world.ts'
import type { Json } from './lab-session.ts'

let world: HotaddWorld
beforeAll(async () => {
  world = await openHotaddWorld()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('a backup over hotadd', () => {
  test.each(['web', 'cowd', 'se'])('of %s: full and incremental are what the guest had', async (name) => {
    const full = (await world.backup([name, '--mode', 'full'])).vms[0]
    expect(full.disks.map((disk: Json) => [disk.mode, disk.transport, disk.refused])).toEqual(full.disks.map(() => ['full', 'hotadd', []]))
    await world.expectRight(name, full)
    const { control } = world.session.lab
    for (const disk of await control.sha256(name)) await control.write(name, { percent: 3, unit: 65_536, disk: disk.key })
    const next = (await world.backup([name, '--mode', 'incremental'])).vms[0]
    expect(next.disks.map((disk: Json) => [disk.mode, disk.transport])).toEqual(next.disks.map(() => ['incremental', 'hotadd']))
    await world.expectRight(name, next)
    await world.expectNothingLeft()
  })
})
