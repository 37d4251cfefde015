import { afterAll, beforeAll, expect, it } from 'vitest'
import { Agent } from '../../src/agent/agent.ts'
import { loadConfig } from '../../src/agent/index.ts'
import { silentLog, systemClock } from '../../src/core/index.ts'
import { locateVms } from '../../src/inventory/index.ts'
import { listDatastores } from '../../src/vsphere/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

const scenario = {
  datacenters: [
    {
      name: 'DC',
      hosts: [{ name: 'esx1' }],
      datastores: ['home', 'disks', 'images', 'other'].map((name) => ({ name, type: 'VMFS6' })),
      vms: [
        { name: 'image', datastore: 'home', cdrom: 'images', disks: [{ size: '4MiB' }] },
        { name: 'both', datastore: 'home', cdrom: 'images', disks: [{ size: '4MiB' }, { size: '4MiB', datastore: 'disks' }] },
        { name: 'plain', datastore: 'other', disks: [{ size: '4MiB' }] },
        { name: 'library', datastore: 'images', cdrom: 'images', disks: [{ size: '4MiB', datastore: 'disks' }] },
      ],
    },
  ],
}

let session: LabSession
beforeAll(async () => {
  session = await openLabSession({ scenario })
})
afterAll(() => session[Symbol.asyncDispose]())

it('a VM lies where its configuration and its disks do, not where the image of its CD drive does', async () => {
  await using agent = await Agent.open(await loadConfig({}, session.environment), {
    clock: systemClock,
    log: silentLog,
    signal: new AbortController().signal,
  })
  const vsphere = await agent.vsphere()
  const names = new Map((await listDatastores(vsphere)).map(({ moref, name }) => [moref, name]))
  const vms = (await session.json(['vms'])).vms as readonly Json[]
  const places = await locateVms(vsphere)
  const found = vms.map(({ vm: { moref, name } }: Json) => [
    name,
    places
      .get(moref)
      ?.datastores.map((each) => names.get(each))
      .toSorted(),
  ])
  expect(Object.fromEntries(found)).toEqual({
    image: ['home'],
    both: ['disks', 'home'],
    plain: ['other'],
    library: ['disks', 'images'],
  })
  expect(places.values().every(({ host }) => host !== undefined)).toBe(true)
})
