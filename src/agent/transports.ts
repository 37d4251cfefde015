import { AgentError, type TransportName } from '../core/index.ts'
import { httpsTransport, sanTransport, type Transport } from '../transport/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import type { AgentConfig } from './config.ts'

/** The configured transports in their order. CONFIG for one that this version does not have. */
export function createTransports(config: AgentConfig, vsphere: Vsphere): readonly Transport[] {
  const known: { readonly [name in TransportName]?: () => Transport } = {
    san: () => sanTransport({ datastores: config.datastores }),
    https: () => httpsTransport(vsphere),
  }
  return config.transports.map((name) => {
    const create = known[name]
    if (create !== undefined) return create()
    throw new AgentError('CONFIG', `Transport ${name} is not part of this version.`, {
      next: `Choose from ${Object.keys(known).join(', ')}.`,
    })
  })
}
