import { AgentError, type ClaimId, type SnapshotRef, type VmRef } from '../core/index.ts'
import { type CallOptions, type SnapshotNode, snapshotTree, type Vsphere } from '../vsphere/index.ts'
import type { PresentVm } from './present-vm.ts'
import { isNamedFor } from './snapshot-name.ts'

/** Any node of a snapshot tree, depth first. */
export function findNode(nodes: readonly SnapshotNode[], test: (node: SnapshotNode) => boolean): SnapshotNode | undefined {
  for (const node of nodes) {
    const found = test(node) ? node : findNode(node.children, test)
    if (found !== undefined) return found
  }
  return undefined
}

export const refOf = (vm: VmRef, node: SnapshotNode): SnapshotRef => ({
  vm,
  moref: node.snapshot.value,
  name: node.name,
  createdAt: node.createTime,
  quiesced: node.quiesced,
})

/** The snapshot a claim is in the name of; undefined when the VM provably has none. UNAVAILABLE while the VM's own list cannot be believed. */
export async function nodeOfClaim(
  vsphere: Vsphere,
  vm: PresentVm,
  claim: ClaimId,
  options?: CallOptions,
): Promise<SnapshotNode | undefined> {
  return findBelieved(vsphere, vm, ({ name }) => isNamedFor(name, claim), options)
}

/**
 * Our snapshot as the VM lists it now: by its name, which has the claim in it; or, should a user have renamed it, by reference and time of
 * creation together, which is all that counts of a user's. A reference alone proves nothing: on a VM registered again it may be somebody else's snapshot.
 */
export async function nodeOf(vsphere: Vsphere, vm: PresentVm, ref: SnapshotRef, options?: CallOptions): Promise<SnapshotNode | undefined> {
  const sameMoment = (time: string): boolean => time !== '' && Date.parse(time) === Date.parse(ref.createdAt)
  return findBelieved(
    vsphere,
    vm,
    (node) => (ref.anyName !== true && node.name === ref.name) || (node.snapshot.value === ref.moref && sameMoment(node.createTime)),
    options,
  )
}

async function findBelieved(
  vsphere: Vsphere,
  vm: PresentVm,
  test: (node: SnapshotNode) => boolean,
  options?: CallOptions,
): Promise<SnapshotNode | undefined> {
  const found = findNode(await snapshotTree(vsphere, vm.moref, options), test)
  if (found !== undefined || vm.connectionState === 'connected' || vm.connectionState === 'unknown') return found
  // vCenter shows a disconnected or inaccessible VM without its snapshots, which must not be taken for "it has none".
  const name = options?.subject ?? vm.moref.value
  throw new AgentError(
    'UNAVAILABLE',
    `Whether ${name} still has its snapshot cannot be seen: the VM is ${vm.connectionState} in vCenter.`,
    {
      subject: name,
      next: 'Connect its host again, then run "vcb recover".',
      retry: 'later',
    },
  )
}
