import { consolidateDisks, createSnapshot, removeSnapshot, vmMoRef, type Vsphere } from '../vsphere/index.ts'
import type { SnapshotChanges } from './snapshot-changes.ts'

/** Through the API, as everywhere but on hosts whose licence forbids it. */
export const apiChanges = (vsphere: Vsphere): SnapshotChanges =>
  Object.freeze<SnapshotChanges>({
    create: async (vm, spec, options) => {
      await createSnapshot(vsphere, vmMoRef(vm), spec, options)
    },
    remove: (_vm, { snapshot }, options) => removeSnapshot(vsphere, snapshot, options),
    consolidate: (vm, options) => consolidateDisks(vsphere, vm.moref, options),
  })
