import { AgentError, type DatastoreRef, type DiskRef, type NotProtected, type VmConfig, type VmRef } from '../core/index.ts'
import { protectionOf } from '../inventory/index.ts'
import type { Transport } from '../transport/index.ts'
import { parseDatastorePath } from '../vsphere/index.ts'

/** Refuses a VM that no snapshot can be taken of. USAGE (template), UNAVAILABLE (its host cannot reach it). */
export function refuseVm(config: VmConfig): void {
  const { name } = config.vm
  if (config.isTemplate) {
    throw new AgentError('USAGE', `${name} is a template, which vSphere cannot snapshot.`, {
      subject: name,
      next: 'Convert it to a virtual machine first, or leave it out.',
    })
  }
  if (config.connectionState !== 'connected') {
    throw new AgentError('UNAVAILABLE', `${name} is ${config.connectionState}: its host cannot reach it.`, {
      subject: name,
      retry: 'later',
      next: 'Repair the VM in vSphere, or leave it out.',
    })
  }
}

/**
 * The disks the snapshot froze and a transport can read. What is left out is judged by the VM's own list of disks, because a snapshot's
 * configuration does not name the disks it does not hold.
 */
export function disksToRead(
  transports: readonly Transport[],
  before: VmConfig,
  frozen: VmConfig,
  excludes: readonly string[],
): { readonly disks: readonly DiskRef[]; readonly notProtected: readonly NotProtected[] } {
  const { disks: held, notProtected } = protectionOf(before, excludes, frozen)
  const disks: DiskRef[] = []
  const left = [...notProtected]
  for (const disk of held) {
    const refusals = transports.map((transport) => ({ name: transport.name, verdict: transport.handles(disk) }))
    if (refusals.length > 0 && refusals.every(({ verdict }) => !verdict.ok)) {
      const reasons = refusals.map(({ name, verdict }) => `${name}: ${verdict.ok ? '' : verdict.reason}`)
      left.push({ disk: disk.label, reason: `no transport reads disks of its kind (${reasons.join('; ')})` })
    } else disks.push(disk)
  }
  return { disks, notProtected: left }
}

/** A VM none of whose disks is left. */
export const nothingToRead = (vm: VmRef, notProtected: readonly NotProtected[]): AgentError =>
  new AgentError(
    'USAGE',
    `No disk of ${vm.name} can be backed up: ${notProtected.map(({ disk, reason }) => `${disk} ${reason}`).join('; ')}.`,
    { subject: vm.name, next: 'Leave this VM out, or change the mode of its disks.' },
  )

/** The datastore a disk's own link lies on; undefined where the server names no file, or a datastore it does not list. */
export function storeOf({ datastores }: VmConfig, { fileName }: DiskRef): DatastoreRef | undefined {
  if (fileName === '') return undefined
  const { datastore } = parseDatastorePath(fileName)
  return datastores.find(({ name }) => name === datastore)
}

/** The datastores of a VM's disks, each once. */
export const storesOf = (config: VmConfig): readonly DatastoreRef[] => [
  ...new Set(config.disks.map((disk) => storeOf(config, disk)).filter((store) => store !== undefined)),
]
