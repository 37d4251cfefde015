import { attachProblem, findProxy } from '../transport/index.ts'
import { HOTADD_PRIVILEGES, missingPrivileges, type Vsphere } from '../vsphere/index.ts'
import type { Agent } from './agent.ts'
import type { Finding } from './doctor.ts'

/**
 * Whether disks can be attached to the VM this process runs in: which VM that is, what of it stands in the way, which privileges are missing on it.
 * Attaches nothing. On a machine that is no VM there is nothing to repair, unless one is configured.
 */
export async function checkHotadd(agent: Agent, vsphere: Vsphere, findings: Finding[]): Promise<void> {
  const { transports, hotadd } = agent.config
  if (!transports.includes('hotadd')) return
  const check = 'hotadd'
  const proxy = await findProxy(vsphere, agent.guest, { signal: agent.signal })
  if ('refusal' in proxy) {
    findings.push(
      hotadd.proxy === undefined
        ? { check, result: 'ok', detail: `not used: ${proxy.refusal}` }
        : {
            check,
            result: 'warning',
            detail: `The configured proxy VM ${hotadd.proxy} cannot be used: ${proxy.refusal}.`,
            next: 'Correct hotadd.proxy in vcb.yaml, or run vcb inside that VM, as root.',
          },
    )
    return
  }
  const { name } = proxy.ref
  const problem = attachProblem(proxy.hardware, await agent.guest.disks())
  const missing = (await missingPrivileges(vsphere, proxy.moref, HOTADD_PRIVILEGES, { signal: agent.signal })) ?? []
  if (problem !== undefined)
    findings.push({
      check,
      result: 'warning',
      detail: `No disk can be attached: ${problem}.`,
      next: `Set disk.EnableUUID = TRUE in the advanced settings of ${name} while it is off, and leave units free on its SCSI or NVMe controllers; see docs/hotadd.md.`,
    })
  if (missing.length > 0)
    findings.push({
      check: 'privileges for hotadd',
      result: 'warning',
      detail: `missing on the proxy VM ${name}: ${missing.join(', ')}`,
      next: `Add them to a role of this user on ${name}.`,
    })
  if (problem === undefined && missing.length === 0)
    findings.push({ check, result: 'ok', detail: `disks are attached to ${name}, this machine` })
}
