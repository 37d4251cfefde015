import { basename } from 'node:path'
import { baseName, directoryOf } from './datastore-path.ts'
import type { Model } from './model.ts'
import { disksOf, type VmRecord } from './record.ts'

export type HeldLock = { readonly path: string; readonly holder: string; readonly mode: 'exclusive' | 'shared' }

/**
 * The lock a host holds on a file, derived from what runs: current extents of a running VM exclusively, their parents shared, swap and lock
 * files exclusively, disks that are open over NFC. Other descriptors and configuration files are not locked against reading.
 */
export function lockOf(model: Model, path: string): HeldLock | undefined {
  const held = model.holds.of(path)
  // Whoever wants the file for itself, as a download does, gets none that is open over NFC.
  if (held !== undefined) return { ...held, mode: 'exclusive' }
  const name = baseName(path)
  const directory = directoryOf(path)
  if (/\.(vswp|lck)$/.test(name)) {
    const owner = [...model.world.vms()].find((vm) => vm.power === 'poweredOn' && directoryOf(vm.path) === directory)
    return { path, holder: owner?.config.name ?? 'host', mode: 'exclusive' }
  }
  const stem = /^(.*)-(flat|delta|sesparse|ctk|rdm|rdmp)\.vmdk$/.exec(name)
  const link = stem === null ? path : `${directory}${directory.endsWith(']') ? ' ' : '/'}${stem[1]}.vmdk`
  if (!name.endsWith('.vmdk')) return undefined
  for (const vm of model.world.vms()) {
    if (vm.power !== 'poweredOn') continue
    for (const disk of disksOf(vm.config)) {
      const at = disk.chain.findIndex((candidate) => candidate.path === link)
      if (at < 0) continue
      const tracking = stem?.[2] === 'ctk'
      return { path, holder: vm.config.name, mode: (at === 0 || tracking) && !disk.foreign && stem !== null ? 'exclusive' : 'shared' }
    }
  }
  return undefined
}

/** All locks of running VMs, for `vcb lab state`. */
export function locksOfVm(model: Model, vm: VmRecord): HeldLock[] {
  if (vm.power !== 'poweredOn' || !vm.materialised) return []
  const locks = disksOf(vm.config).flatMap((disk) =>
    disk.chain.flatMap((link, index) =>
      model.files
        .ofLink(link)
        .slice(1)
        .map((path): HeldLock => ({ path, holder: vm.config.name, mode: index === 0 && !disk.foreign ? 'exclusive' : 'shared' })),
    ),
  )
  const swap = `${vm.path.slice(0, -'.vmx'.length)}.vswp`
  return [...locks, { path: swap, holder: `${vm.config.name} (${basename(swap)})`, mode: 'exclusive' }]
}
