import { randomBytes } from 'node:crypto'
import { systemClock, type TransportName } from '../../src/core/index.ts'
import type { SshHosts } from '../../src/ssh/index.ts'
import {
  createNfcLimits,
  httpsTransport,
  leaseTransport,
  nbdTransport,
  sanTransport,
  sshTransport,
  type Transport,
} from '../../src/transport/index.ts'
import { endpointName, type Vsphere } from '../../src/vsphere/index.ts'

/** What a transport needs to be made. */
export type TransportSite = {
  readonly vsphere: Vsphere
  /** Where each datastore is mounted. */
  readonly datastores: Readonly<Record<string, string>>
  /** Hosts whose shell may be used. */
  readonly ssh: SshHosts
}

export type TransportUnderTest = {
  readonly name: TransportName
  make(site: TransportSite): Transport
}

const nbd = (name: 'nbd' | 'nbdssl'): TransportUnderTest => ({
  name,
  make: ({ vsphere }) => nbdTransport(vsphere, { name, clock: systemClock, random: randomBytes, limits: createNfcLimits() }),
})

/** Every transport that reads disks, in the order of the table's columns; a new one is one line. */
export const TRANSPORTS: readonly TransportUnderTest[] = [
  { name: 'san', make: ({ vsphere, datastores }) => sanTransport({ datastores, clock: systemClock, vsphere }) },
  nbd('nbd'),
  nbd('nbdssl'),
  { name: 'https', make: ({ vsphere }) => httpsTransport(vsphere) },
  { name: 'ssh', make: ({ vsphere, ssh }) => sshTransport({ hosts: ssh, endpoint: endpointName(vsphere), vsphere }) },
  { name: 'lease', make: ({ vsphere }) => leaseTransport(vsphere) },
]
