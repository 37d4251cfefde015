import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { baseName, directoryOf, within } from './datastore-path.ts'
import type { Model } from './model.ts'
import type { SnapshotRecord, VmRecord } from './record.ts'

/** What a `.vmsn` of a VM that is registered nowhere holds: all a host needs to show the snapshot again. */
type Saved = { readonly record: SnapshotRecord; readonly current: boolean }

const fileOf = (vm: VmRecord, number: number): string =>
  within(directoryOf(vm.path), `${basename(baseName(vm.path), '.vmx')}-Snapshot${number}.vmsn`)

/** Leaves the snapshots in the VM's files, as they stand, before it is unregistered. */
export function saveSnapshots(model: Model, vm: VmRecord): void {
  for (const record of vm.snapshots) {
    const saved: Saved = { record, current: record.id === vm.currentSnapshot }
    writeFileSync(model.files.local(fileOf(vm, record.number)), `${JSON.stringify(saved)}\n`)
  }
}

/** Takes the snapshots in the files of a VM just registered into its record, under new references. */
export function readSnapshots(model: Model, vm: VmRecord): void {
  const stem = basename(baseName(vm.path), '.vmx')
  const renamed = new Map<string, string>()
  const found: Saved[] = []
  for (const name of model.files.list(directoryOf(vm.path))) {
    if (!name.startsWith(`${stem}-Snapshot`) || !name.endsWith('.vmsn')) continue
    const saved: unknown = JSON.parse(readFileSync(model.files.local(within(directoryOf(vm.path), name)), 'utf8'))
    // One of a VM that was never unregistered in order tells its name only.
    if (typeof saved !== 'object' || saved === null || !('record' in saved)) continue
    found.push(saved as Saved)
  }
  found.sort((a, b) => a.record.number - b.record.number)
  for (const { record } of found) renamed.set(record.id, model.world.newId('snapshot-'))
  const idOf = (id: string | undefined): string | undefined => (id === undefined ? undefined : renamed.get(id))
  vm.snapshots = found.map(({ record }) => ({ ...record, id: idOf(record.id) ?? record.id, parent: idOf(record.parent) }))
  vm.currentSnapshot = idOf(found.find(({ current }) => current)?.record.id)
  vm.nextSnapshotNumber = Math.max(0, ...found.map(({ record }) => record.number)) + 1
}
