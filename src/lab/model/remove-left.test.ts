import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../core/index.ts'
import { readScenario } from '../scenario.ts'
import { removeLeft } from './remove-left.ts'
import { World } from './world.ts'

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-lab-left-'))
})
afterEach(async () => {
  await rm(directory, { recursive: true, force: true })
})

const SCENARIO = {
  datacenters: [
    { name: 'DC1', hosts: [{ name: 'esx1.lab' }], datastores: [{ name: 'ds1' }], vms: [{ name: 'one', disks: [{ size: '1MiB' }] }] },
  ],
}
const open = (): Promise<World> => World.open(directory, () => readScenario(SCENARIO), systemClock)

describe('what a removed VM leaves', () => {
  test('is known to the next start until it is gone', async () => {
    const home = join(directory, 'home')
    mkdirSync(home)
    const file = join(home, 'one.vmdk')
    writeFileSync(file, 'x')
    const world = await open()
    const [vm] = world.vms()
    if (vm === undefined) throw new Error('the scenario has no VM')
    await world.remove(vm, [file, home])

    const second = await open()
    expect([...second.vms()]).toEqual([])
    expect([...second.leftFiles]).toEqual([[vm.id, [file, home]]])
    for (const [id, paths] of second.leftFiles) {
      removeLeft(paths)
      await second.removed(id)
    }
    expect(existsSync(home)).toBe(false)
    expect([...(await open()).leftFiles]).toEqual([])
  })

  test('is removed as far as it is there, and a directory only when nothing else is in it', () => {
    const home = join(directory, 'home')
    mkdirSync(home)
    writeFileSync(join(home, 'a'), 'x')
    writeFileSync(join(home, 'of somebody else'), 'x')
    removeLeft([join(home, 'a'), join(home, 'gone'), home])
    removeLeft([join(home, 'a'), join(home, 'gone'), home])
    expect(existsSync(join(home, 'a'))).toBe(false)
    expect(existsSync(join(home, 'of somebody else'))).toBe(true)
  })
})

test('a VM that was being made is found by the next start, marked as such', async () => {
  const world = await open()
  const [vm] = world.vms()
  if (vm === undefined) throw new Error('the scenario has no VM')
  await world.prepare({ ...structuredClone(vm), id: 'vm-99', path: '[ds1] two/two.vmx', pending: { kind: 'import', links: [] } })
  expect((await open()).vm('vm-99')?.pending).toEqual({ kind: 'import', links: [] })
})
