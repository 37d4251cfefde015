import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { createIds, createMarks, systemClock, type TransportName } from '../../src/core/index.ts'
import type { SshHosts } from '../../src/ssh/index.ts'
import {
  createNfcLimits,
  hotaddTransport,
  httpsTransport,
  leaseTransport,
  nbdTransport,
  type ProxyGuest,
  sanTransport,
  sshTransport,
  type Transport,
  vddkTransport,
} from '../../src/transport/index.ts'
import { endpointName, type Vsphere } from '../../src/vsphere/index.ts'
import { peer } from '../peer.ts'
import type { VddkStandIn } from '../vddk-stand-in.ts'

/** What a transport needs to be made. */
export type TransportSite = {
  readonly vsphere: Vsphere
  /** Where each datastore is mounted. */
  readonly datastores: Readonly<Record<string, string>>
  /** Hosts whose shell may be used. */
  readonly ssh: SshHosts
  /** The inside of the proxy VM, as if this process ran in it. */
  readonly guest: ProxyGuest
  /** What stands for VMware's library; undefined where there is no nbdkit or no qemu-img. */
  readonly vddk: VddkStandIn | undefined
}

export type TransportUnderTest = {
  readonly name: TransportName
  make(site: TransportSite): Transport
}

const nbd = (name: 'nbd' | 'nbdssl'): TransportUnderTest => ({
  name,
  make: ({ vsphere }) => nbdTransport(vsphere, { name, clock: systemClock, random: randomBytes, limits: createNfcLimits() }),
})

/** A stand-in for VMware's library, of which nothing is proved here but our way to it. */
const vddk: TransportUnderTest = {
  name: 'vddk',
  make: ({ vsphere, vddk: standIn }) => {
    if (standIn === undefined) throw new Error('there is no stand-in for VDDK')
    const { libdir, nbdkit } = standIn
    return vddkTransport(vsphere, { clock: systemClock, libdir, nbdkit, environment: { PATH: process.env['PATH'] ?? '', TMPDIR: libdir } })
  },
}

const marks = () => createMarks({ agent: createIds().agent(), host: hostname(), pid: process.pid, clock: systemClock })

/** Every transport that reads disks, in the order of the table's columns; a new one is one line. `vddk` only where its peers are. */
export const TRANSPORTS: readonly TransportUnderTest[] = [
  { name: 'san', make: ({ vsphere, datastores }) => sanTransport({ datastores, clock: systemClock, vsphere }) },
  { name: 'hotadd', make: ({ vsphere, guest }) => hotaddTransport(vsphere, { guest, marks: marks() }) },
  nbd('nbd'),
  nbd('nbdssl'),
  { name: 'https', make: ({ vsphere }) => httpsTransport(vsphere) },
  { name: 'ssh', make: ({ vsphere, ssh }) => sshTransport({ hosts: ssh, endpoint: endpointName(vsphere), vsphere }) },
  { name: 'lease', make: ({ vsphere }) => leaseTransport(vsphere) },
  ...(peer('nbdkit') === undefined || peer('qemu-img') === undefined ? [] : [vddk]),
]
