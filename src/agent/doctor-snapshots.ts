import { isAgentError, toAgentError } from '../core/index.ts'
import { retrieveOne, type Vsphere } from '../vsphere/index.ts'
import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'

/** `editionKey` of the free licence (vSphere Hypervisor), whose API looks and does nothing: RestrictedVersion. */
const FREE = 'esxBasic'

/** Whether a standalone host lets its API change anything, and who makes the snapshots where it does not. Changes nothing. */
export async function checkSnapshots(agent: Agent, vsphere: Vsphere, findings: Finding[]): Promise<void> {
  if (vsphere.about.kind !== 'esxi' || !vsphere.hasService('licenseManager')) return
  const { props } = await retrieveOne(vsphere, vsphere.service('licenseManager'), ['licenses'], { signal: agent.signal })
  const licence = (props.get('licenses')?.items() ?? []).find((each) => each.string('editionKey') === FREE)
  if (licence === undefined) return
  const check = 'snapshots'
  const readOnly = `The licence of ${vsphere.host} (${licence.string('name') ?? 'free'}) lets its API only show`
  const { snapshots } = agent.config.ssh
  const [host] = agent.sshHosts.all
  if (host === undefined || snapshots === 'api') {
    findings.push({
      check,
      result: 'failed',
      detail: `${readOnly}, and ${snapshots === 'api' ? 'ssh.snapshots of vcb.yaml is "api"' : 'SSH to it is not configured'}.`,
      next: 'Write ssh.hosts with the host into vcb.yaml (docs/ssh.md): its snapshots are then made in its shell.',
    })
    return
  }
  try {
    const connection = await agent.sshHosts.connect(host.name, { signal: agent.signal, apart: true })
    const { status } = await connection.run(['vim-cmd', 'vmsvc/getallvms'], { signal: agent.signal })
    findings.push(
      status === 0
        ? {
            check,
            result: 'ok',
            detail: `${readOnly}: snapshots are made and removed by vim-cmd in its shell; change tracking cannot be switched on, so every read is of the whole disk`,
          }
        : { check, result: 'failed', detail: `${readOnly}, and vim-cmd does not run in its shell.`, next: 'Log in to the host as root.' },
    )
  } catch (error) {
    if (isAgentError(error, 'CANCELED')) throw error
    const { message, next } = toAgentError(error)
    findings.push({ check, result: 'failed', detail: `${readOnly}, and its shell cannot be used: ${message}`, next })
  }
}
