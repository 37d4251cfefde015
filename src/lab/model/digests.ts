import { digestOf } from '../storage/index.ts'
import type { Machine } from './machine.ts'
import type { Model } from './model.ts'
import { diskLabel, disksOf, type SnapshotRecord, type VmRecord } from './record.ts'

export type DiskDigestRecord = { key: number; label: string; capacityBytes: number; sha256: string; kind: 'sha256' | 'content' }

const underWay = new WeakMap<VmRecord, Promise<void>>()

/** Digests every disk of a snapshot in the background and keeps the result with the VM. A removal waits for it. */
export function recordDigests(model: Model, vm: VmRecord, machine: Machine, snapshot: SnapshotRecord): void {
  const before = underWay.get(vm) ?? Promise.resolve()
  const work = before.then(() =>
    machine.use(async () => {
      const disks = await digestSnapshot(machine, snapshot)
      vm.digests.push({ snapshot: snapshot.id, name: snapshot.name, createdAt: snapshot.createdAt, quiesced: snapshot.quiesced, disks })
      const spare = vm.digests.find((old) => !vm.snapshots.some(({ id }) => id === old.snapshot))
      if (vm.digests.length > 100 && spare !== undefined) vm.digests.splice(vm.digests.indexOf(spare), 1)
      await model.world.keep(vm)
    }),
  )
  underWay.set(
    vm,
    work.catch((error: unknown) =>
      model.log.warn('the digests of a snapshot were not recorded', { vm: vm.config.name, snapshot: snapshot.name, error: String(error) }),
    ),
  )
}

/** Resolves when no digest of this VM is being computed. */
export async function settleDigests(_model: Model, vm: VmRecord): Promise<void> {
  await underWay.get(vm)
}

/** Digests of the frozen images. The machine is open. */
export async function digestSnapshot(machine: Machine, snapshot: SnapshotRecord, only?: number): Promise<DiskDigestRecord[]> {
  const found: DiskDigestRecord[] = []
  for (const disk of disksOf(snapshot.config)) {
    const link = disk.chain[0]
    if (link === undefined || disk.rdm === 'physical' || (only !== undefined && disk.key !== only)) continue
    using view = machine.view(disk, link)
    const digest = await digestOf(view)
    found.push({
      key: disk.key,
      label: diskLabel(snapshot.config, disk),
      capacityBytes: disk.capacity,
      sha256: digest.hex,
      kind: digest.kind,
    })
  }
  return found
}

/** Digests of the disks as they are, the guest stunned meanwhile so that all belong to one moment. */
export async function digestNow(machine: Machine, vm: VmRecord, only?: number): Promise<DiskDigestRecord[]> {
  using _stunned = machine.guest.stun()
  const found: DiskDigestRecord[] = []
  for (const disk of disksOf(vm.config)) {
    const open = machine.disk(disk.key)
    if (open === undefined || (only !== undefined && disk.key !== only)) continue
    const digest = await digestOf(open)
    found.push({ key: disk.key, label: diskLabel(vm.config, disk), capacityBytes: disk.capacity, sha256: digest.hex, kind: digest.kind })
  }
  return found
}
