import { DEFAULT_TRANSPORTS, TRANSPORT_NAMES, type VmRef } from '../core/index.ts'
import { describeVm, protectionOf, selectVms } from '../inventory/index.ts'
import { foreseeDisk, type Foresight } from '../transport/index.ts'
import type { Agent } from './agent.ts'
import { createTransports } from './transports.ts'

/** What every transport says of one disk; `configured`: it stands in the order that backups use. */
export type DiskVerdicts = {
  readonly label: string
  readonly capacityBytes: number
  /** Why no snapshot holds this disk; then no transport was asked. */
  readonly notProtected: string | undefined
  readonly verdicts: readonly (Foresight & { readonly configured: boolean })[]
}

export type VmVerdicts = { readonly vm: VmRef; readonly disks: readonly DiskVerdicts[] }

/**
 * Asks every transport there is about every disk of the VMs an expression names, the configured ones first and in their order. No snapshot is taken and
 * nothing is changed, so a verdict is as far as can be seen before. NOT_FOUND, UNAVAILABLE.
 */
export async function diagnoseVms(agent: Agent, expressions: readonly string[]): Promise<readonly VmVerdicts[]> {
  const { config, signal } = agent
  const vsphere = await agent.vsphere()
  const configured = new Set(config.transports)
  const others = [...DEFAULT_TRANSPORTS, ...TRANSPORT_NAMES].filter((name) => !configured.has(name))
  const transports = createTransports(agent, vsphere, [...new Set([...config.transports, ...others])])
  const judged: VmVerdicts[] = []
  for (const vm of await selectVms(vsphere, expressions, { bulk: false, signal })) {
    const described = await describeVm(vsphere, vm, { signal })
    const { notProtected } = protectionOf(described)
    const disks: DiskVerdicts[] = []
    for (const disk of described.disks) {
      const left = notProtected.find((each) => each.disk === disk.label)?.reason
      const seen = left === undefined ? await foreseeDisk({ config: described, disk }, transports, 'allocated', { signal }) : []
      const verdicts = seen.map((one) => ({ ...one, configured: configured.has(one.transport) }))
      disks.push({ label: disk.label, capacityBytes: disk.capacityBytes, notProtected: left, verdicts })
    }
    judged.push({ vm, disks })
  }
  return judged
}
