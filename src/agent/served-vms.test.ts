import { expect, test } from 'vitest'
import { systemClock, type VmRef } from '../core/index.ts'
import { createServedVms, siteOf } from './served-vms.ts'

const sites = [
  { name: 'fra', hosts: ['esx-fra-*'], datastores: ['fra-?'] },
  { name: 'muc', hosts: ['esx-muc-1'], datastores: [] },
]

test.each([
  ['its host', { host: 'ESX-fra-2.example.com', datastores: [] }, 'fra'],
  ['one of its datastores, before the host of a later site', { host: 'esx-muc-1', datastores: ['local', 'FRA-1'] }, 'fra'],
  ['the host alone', { host: 'esx-muc-1', datastores: ['muc-1'] }, 'muc'],
  ['nothing', { host: 'esx-muc-12', datastores: ['fra-10'] }, undefined],
  ['no place', { host: undefined, datastores: [] }, undefined],
] as const)('a VM is of a site by %s', (_, place, site) => {
  expect(siteOf(sites, place)).toBe(site)
})

test('transports of the job are served where the proxy has one of them; vCenter is not asked where every site is served', async () => {
  const asked = async (): Promise<never> => {
    throw new Error('asked')
  }
  const parts = { clock: systemClock, vsphere: asked, sites, transports: ['san', 'nbdssl'] as const }
  const vm = { moref: 'vm-1' } as VmRef
  const all = createServedVms({ ...parts, served: undefined })
  expect(await Promise.all([all.serves(vm, undefined), all.serves(vm, ['hotadd', 'san']), all.serves(vm, ['hotadd'])])).toEqual([
    true,
    true,
    false,
  ])
  const some = createServedVms({ ...parts, served: ['muc'] })
  expect(await some.serves(vm, ['hotadd'])).toBe(false)
  await expect(some.serves(vm, ['san'])).rejects.toThrow('asked')
})
