import { createIds, type SnapshotRef } from '../../src/core/index.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import { createSnapshots } from '../../src/snapshot/index.ts'
import type { SnapshotDisk } from '../../src/transport/index.ts'
import type { Vsphere } from '../../src/vsphere/index.ts'

/** The disks of a VM as a snapshot froze them, in the order of their keys; disposal removes the snapshot. */
export type FrozenDisks = AsyncDisposable & { readonly snapshot: SnapshotRef; readonly disks: readonly SnapshotDisk[] }

export async function freezeDisks(vsphere: Vsphere, name: string): Promise<FrozenDisks> {
  const [vm] = await selectVms(vsphere, [`name:${name}`])
  if (vm === undefined) throw new Error(`there is no VM ${name}`)
  const before = await describeVm(vsphere, vm)
  const snapshots = createSnapshots(vsphere)
  const snapshot = await snapshots.create(vm, { claim: createIds().claim() })
  const config = await snapshots.configOf(snapshot, before)
  return {
    snapshot,
    disks: config.disks.toSorted((a, b) => a.key - b.key).map((disk) => ({ snapshot, config, disk })),
    [Symbol.asyncDispose]: async () => {
      await snapshots.remove(snapshot)
    },
  }
}
