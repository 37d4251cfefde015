import { AgentError, type Clock, type TransportName } from '../core/index.ts'
import type { SshHosts } from '../ssh/index.ts'
import {
  httpsTransport,
  leaseTransport,
  nbdTransport,
  type NfcLimits,
  sanTransport,
  sshTransport,
  type Transport,
} from '../transport/index.ts'
import { endpointName, type Vsphere } from '../vsphere/index.ts'
import type { AgentConfig } from './config.ts'

export type TransportParts = {
  readonly config: AgentConfig
  readonly clock: Clock
  readonly random: (size: number) => Uint8Array
  /** One object for all runs of the process. */
  readonly nfcLimits: NfcLimits
  readonly sshHosts: SshHosts
}

/** The transports of these names, or those configured for reading, in their order. CONFIG for one that this version does not have. */
export function createTransports(
  { config, clock, random, nfcLimits, sshHosts }: TransportParts,
  vsphere: Vsphere,
  names: readonly TransportName[] = config.transports,
): readonly Transport[] {
  const { compression, sessions } = config.nfc
  const nbd = (name: 'nbd' | 'nbdssl') => () => nbdTransport(vsphere, { name, clock, random, limits: nfcLimits, compression, sessions })
  const known: { readonly [name in TransportName]?: () => Transport } = {
    san: () => sanTransport({ datastores: config.datastores, clock, vsphere }),
    nbdssl: nbd('nbdssl'),
    nbd: nbd('nbd'),
    https: () => httpsTransport(vsphere),
    lease: () => leaseTransport(vsphere),
    ssh: () => sshTransport({ hosts: sshHosts, endpoint: endpointName(vsphere), vsphere }),
  }
  return names.map((name) => {
    const create = known[name]
    if (create !== undefined) return create()
    throw new AgentError('CONFIG', `Transport ${name} is not part of this version.`, {
      next: `Choose from ${Object.keys(known).join(', ')}.`,
    })
  })
}
