import { isAgentError, type MoRef, toAgentError } from '../core/index.ts'
import { type NfcTicket, openNfcSession } from '../nfc/index.ts'
import { type HostRef, listHosts, retrieveOne, ticketToRead, type Vsphere } from '../vsphere/index.ts'
import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'

/**
 * Whether the NFC service of each connected host can be reached and lets us in: a ticket for any of its VMs, a session, and the end of it; no disk is
 * opened. Asked only when a configured transport needs it; a host without it is a warning while another transport is left.
 */
export async function checkNfc(agent: Agent, vsphere: Vsphere, findings: Finding[]): Promise<void> {
  const { transports } = agent.config
  const name = transports.find((transport) => transport === 'nbdssl' || transport === 'nbd')
  if (name === undefined) return
  for (const host of await listHosts(vsphere, undefined, { signal: agent.signal })) {
    if (!host.connected || host.maintenance) continue
    const check = `NFC of ${host.name}`
    const vm = await anyVm(vsphere, host)
    if (vm === undefined) {
      findings.push({ check, result: 'ok', detail: 'not asked: the host runs no VM that a ticket could be for' })
      continue
    }
    try {
      let where = ''
      const ask = async (): Promise<NfcTicket> => {
        const ticket = await ticketToRead(vsphere, vm, { signal: agent.signal })
        where = `${ticket.host}:${ticket.port}`
        return ticket
      }
      const dial = { encrypted: name === 'nbdssl', clock: agent.clock, random: agent.random, signal: agent.signal }
      await using _session = await openNfcSession(ask, dial)
      findings.push({ check, result: 'ok', detail: `${name} at ${where}` })
    } catch (error) {
      if (isAgentError(error, 'CANCELED')) throw error
      findings.push({
        check,
        result: transports.some((transport) => transport !== 'nbd' && transport !== 'nbdssl') ? 'warning' : 'failed',
        detail: toAgentError(error).message,
        next: `Open TCP 902 from this proxy to the host, or leave ${name} out of --transport.`,
      })
    }
  }
}

async function anyVm(vsphere: Vsphere, host: HostRef): Promise<MoRef | undefined> {
  const { props } = await retrieveOne(vsphere, host.moref, ['vm'], { subject: host.name })
  return props.get('vm')?.items()[0]?.asRef()
}
