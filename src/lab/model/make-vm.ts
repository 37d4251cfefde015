import { mkdirSync, rmSync } from 'node:fs'
import { directoryOf } from './datastore-path.ts'
import type { Machine } from './machine.ts'
import type { Model } from './model.ts'
import { type DiskRecord, disksOf, type VmRecord } from './record.ts'
import { createSnapshot } from './snapshot.ts'
import { enableTracking, makeDisk, writeVmx } from './vm-files.ts'

/** Makes all files of a VM that has none yet: directory, disks with their contents, VMX, the user's own snapshots. Begins anew after a crash. */
export async function makeVmFiles(model: Model, vm: VmRecord, machine: Machine): Promise<void> {
  const { files, world } = model
  const made = new Set<string>()
  for (const path of [vm.path, ...disksOf(vm.config).map((disk) => disk.chain.at(-1)?.path ?? vm.path)]) {
    const directory = directoryOf(path)
    if (made.has(directory)) continue
    made.add(directory)
    rmSync(files.local(directory), { recursive: true, force: true })
    mkdirSync(files.local(directory), { recursive: true })
  }
  for (const disk of disksOf(vm.config)) makeDisk(model, vm, disk)
  writeVmx(model, vm)
  if (disksOf(vm.config).some((disk) => disk.content === 'random') || (world.userSnapshots.get(vm.id) ?? []).length > 0) {
    await machine.use(async () => {
      for (const disk of disksOf(vm.config)) {
        if (disk.content === 'random')
          await machine.guest.writeNow({
            percent: 12,
            blockBytes: 65_536,
            seed: disk.key ^ world.lab.scenario.seed,
            disk: indexOf(machine, disk),
          })
      }
      if (vm.workload > 0) await machine.guest.writeNow({ records: 8 })
      if (vm.trackingActive) enableTracking(machine, vm)
      for (const wanted of world.userSnapshots.get(vm.id) ?? []) {
        await createSnapshot(model, vm, machine, { name: wanted.name, description: wanted.description, memory: false, quiesce: false })
        await machine.guest.writeNow({ records: 4 })
      }
    })
  } else if (vm.trackingActive) {
    await machine.use(() => enableTracking(machine, vm))
  }
  vm.materialised = true
  await world.keep(vm)
}

const indexOf = (machine: Machine, disk: DiskRecord): number => machine.recordDisks().findIndex((candidate) => candidate.key === disk.key)
