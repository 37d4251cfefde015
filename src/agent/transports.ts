import { AgentError, type Clock, type Marks, type TransportName } from '../core/index.ts'
import type { SshHosts } from '../ssh/index.ts'
import {
  absentTransport,
  hotaddTransport,
  httpsTransport,
  leaseTransport,
  nbdTransport,
  type NfcLimits,
  type ProxyGuest,
  sanTransport,
  sshTransport,
  type Transport,
  vddkTransport,
} from '../transport/index.ts'
import { endpointName, type Vsphere } from '../vsphere/index.ts'
import type { AgentConfig } from './config/config.ts'

export type TransportParts = {
  readonly config: AgentConfig
  readonly clock: Clock
  readonly random: (size: number) => Uint8Array
  /** One object for all runs of the process. */
  readonly nfcLimits: NfcLimits
  readonly sshHosts: SshHosts
  /** One object for all runs of the process. */
  readonly guest: ProxyGuest
  readonly marks: Marks
}

/** The transports of these names, or the configured ones, in their order. One that this version does not have refuses every disk; CONFIG when it has none. */
export function createTransports(
  { config, clock, random, nfcLimits, sshHosts, guest, marks }: TransportParts,
  vsphere: Vsphere,
  names: readonly TransportName[] = config.transports,
): readonly Transport[] {
  const { vddk } = config
  const { compression, sessions } = config.nfc
  const nbd = (name: 'nbd' | 'nbdssl') => () => nbdTransport(vsphere, { name, clock, random, limits: nfcLimits, compression, sessions })
  const known: { [name in TransportName]?: () => Transport } = {
    san: () => sanTransport({ datastores: config.datastores, clock, vsphere }),
    hotadd: () => hotaddTransport(vsphere, { guest, marks }),
    nbdssl: nbd('nbdssl'),
    nbd: nbd('nbd'),
    https: () => httpsTransport(vsphere),
    lease: () => leaseTransport(vsphere),
    ssh: () => sshTransport({ hosts: sshHosts, endpoint: endpointName(vsphere), vsphere }),
    vddk: () =>
      vddk === undefined
        ? absentTransport('vddk', "no vddk.libdir is configured, the directory of VMware's library")
        : vddkTransport(vsphere, { ...vddk, clock }),
  }
  if (!names.some((name) => known[name] !== undefined)) {
    throw new AgentError('CONFIG', `Transport ${names.join(', ')} is not part of this version.`, {
      next: `Choose from ${Object.keys(known).join(', ')}.`,
    })
  }
  return names.map((name) => known[name]?.() ?? absentTransport(name, 'it is not part of this version'))
}
