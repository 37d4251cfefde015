import { hostname } from 'node:os'
import { createIds, createMarks, silentLog, systemClock } from '../../src/core/index.ts'
import { createReleasePatience, createReleasers } from '../../src/flow/index.ts'
import { transportClaims } from '../../src/flow/transport-claims.ts'
import { createClaims, MemoryJournal, systemProcesses, type VmLocks } from '../../src/journal/index.ts'
import { hotaddTransport, ProxyGuest } from '../../src/transport/index.ts'
import { openEmptyDisks } from '../transports/empty-disks.ts'
import { diskWritingContract } from './disk-writing-contract.ts'

const noLocks: VmLocks = {
  acquire: () => Promise.reject(new Error('no lock was asked for')),
  refusal: async () => undefined,
  find: async () => undefined,
  release: async () => undefined,
}

for (const proxy of [true, 'file'] as const) {
  diskWritingContract(
    `hotadd, the guest with ${proxy === 'file' ? 'files' : 'devices where they can be made'}`,
    async () => {
      const vms = [{ name: 'proxy', datastore: 'v6', proxy, extraConfig: { 'disk.EnableUUID': 'TRUE' }, disks: [{ size: '1MiB' }] }]
      const world = await openEmptyDisks({
        datacenters: [{ name: 'DC', hosts: [{ name: 'esx1' }], datastores: [{ name: 'v6', type: 'VMFS6' }], vms }],
      })
      const { vsphere, lab } = world
      const state = async () => (await lab.control.state()).vms.find((vm) => vm.name === 'proxy')
      const seen = (await state())?.guest
      const guest = new ProxyGuest({ sysfs: seen?.sysfs ?? '', devices: seen?.devices ?? '', appearMs: 5000, clock: systemClock })
      const ids = createIds()
      const marks = createMarks({ agent: ids.agent(), host: hostname(), pid: process.pid, clock: systemClock })
      const patience = createReleasePatience({ clock: systemClock, log: silentLog, forMs: 10_000 })
      const journal = new MemoryJournal(systemClock, ids, await systemProcesses.self())
      const releasers = createReleasers({ vsphere: async () => vsphere, locks: noLocks, patience, clock: systemClock, guest })
      const claims = createClaims(journal, releasers, await journal.begin('test', {}))
      const { writing } = hotaddTransport(vsphere, { guest, marks })
      if (writing === undefined) throw new Error('hotadd does not write')
      return {
        world,
        writing,
        open: { claims: transportClaims(claims, []) },
        left: async () => {
          const now = await state()
          return [
            ...(now?.disks.filter((disk) => disk.attached) ?? []),
            ...(now?.guest?.disks.filter(({ name }) => name !== 'sda') ?? []),
            ...claims.held,
          ]
        },
        [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
      }
    },
    {
      noCut: 'there is no connection: the host writes as for any disk of the proxy',
      noCapacity: 'the lab’s loop devices and files do not count a datastore’s space',
    },
  )
}
