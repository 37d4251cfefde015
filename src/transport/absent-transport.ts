import type { TransportName, Verdict } from '../core/index.ts'
import { AgentError } from '../core/index.ts'
import type { Transport } from './transport.ts'

/** Stands in an order for a transport that this version or this installation does not have: it refuses every disk with one reason. */
export function absentTransport(name: TransportName, reason: string): Transport {
  const refusal: Verdict = Object.freeze({ ok: false, reason })
  return {
    name,
    handles: () => refusal,
    probe: async () => refusal,
    foresee: async () => refusal,
    open: () => Promise.reject(new AgentError('CONFIG', `The transport ${name} cannot be used: ${reason}.`)),
  }
}
