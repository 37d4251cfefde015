import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { buildInventory } from './model/inventory-build.ts'
import { createSeeded } from './model/seeded.ts'
import { readScenario } from './scenario.ts'

const minimal = (more: object = {}): object => ({
  datacenters: [{ name: 'DC', hosts: [{ name: 'h' }], datastores: [{ name: 'ds' }], ...more }],
})

describe('scenario', () => {
  test('is read from YAML, with sizes in words', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'vcb-scenario-'))
    try {
      const file = join(directory, 's.yaml')
      await writeFile(
        file,
        'datacenters:\n- name: DC\n  hosts: [{name: h}]\n  datastores: [{name: ds, capacity: 1.5 GiB}]\n  vms: [{name: a, disks: [{size: 64MiB}]}]\n',
      )
      const scenario = await readScenario(file)
      expect(scenario.datacenters[0]?.datastores[0]?.capacity).toBe(1.5 * 2 ** 30)
      expect(scenario.datacenters[0]?.vms[0]?.disks[0]).toMatchObject({ size: 64 * 2 ** 20, thin: true, mode: 'persistent' })
      await writeFile(file, 'a: [b')
      await expect(readScenario(file)).rejects.toMatchObject({ code: 'CONFIG' })
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  test.each([
    [{ name: 'x', unknown: 1, ...minimal() }, 'wrong at'],
    [minimal({ hosts: [] }), 'has no host'],
    [minimal({ hosts: [{ name: 'h' }, { name: 'h' }] }), 'twice'],
    [minimal({ datastores: [{ name: '../up' }] }), 'no datastore name'],
    [minimal({ vms: [{ name: 'a', host: 'other' }] }), 'unknown host'],
    [minimal({ vms: [{ name: 'a', networks: [{ network: 'none' }] }] }), 'unknown network'],
    [minimal({ standalone: true, hosts: [{ name: 'h' }, { name: 'i' }] }), 'exactly one host'],
    [minimal({ vms: [{ name: 'a', disks: [{ size: '64 potatoes' }] }] }), 'wrong at'],
  ])('%j is refused', async (scenario, words) => {
    await expect(readScenario(scenario)).rejects.toThrow(words)
  })

  test('the default scenario has everything a backup meets, and gives the same ids each time', async () => {
    const scenario = await readScenario(undefined)
    const build = () => buildInventory(scenario, createSeeded(scenario.seed), '/lab', '2026-01-01T00:00:00.000Z')
    const built = build()
    expect(build()).toEqual(built)
    const ids = [...built.entities.map((entity) => entity.id), ...built.vms.map((vm) => vm.id)]
    expect(new Set(ids).size).toBe(ids.length)
    expect(new Set(built.vms.map((vm) => vm.path)).size).toBe(built.vms.length)
    for (const vm of built.vms) expect(new Set(vm.config.devices.map((device) => device.key)).size).toBe(vm.config.devices.length)
    const disks = built.vms.flatMap((vm) => vm.config.devices.filter((device) => device.kind === 'disk'))
    expect(disks.some((disk) => disk.rdm === 'physical') && disks.some((disk) => disk.mode === 'independent_persistent')).toBe(true)
    expect(disks.some((disk) => disk.thin) && disks.some((disk) => !disk.thin)).toBe(true)
    expect(built.vms.some((vm) => vm.template) && built.vms.some((vm) => vm.power === 'poweredOff')).toBe(true)
    expect(
      built.vms.filter((vm) => new Set(vm.config.devices.flatMap((device) => (device.kind === 'controller' ? [device.key] : []))).size > 1)
        .length,
    ).toBeGreaterThan(1)
    expect(built.userSnapshots.size).toBeGreaterThan(0)
  })
})
