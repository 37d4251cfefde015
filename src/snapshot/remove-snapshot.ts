import { type Abortable, AgentError, isAgentError, type SnapshotRef, toAgentError } from '../core/index.ts'
import { attachedTo, faultOf, isFault, parseDisks, retrieveOne, type Vsphere, waitTasksOf } from '../vsphere/index.ts'
import { nodeOf } from './own-snapshot.ts'
import { type PresentVm, presentVm } from './present-vm.ts'
import type { SnapshotChanges } from './snapshot-changes.ts'
import type { Removal, RemoveOptions } from './snapshots.ts'

/**
 * One try to remove our snapshot and to merge what it left; see `Snapshots.remove`. Looks at the VM first, so it may be made again whatever
 * became of the try before: a removal still running is waited for, one that failed while merging goes on with the consolidation.
 */
export async function removeOwnSnapshot(
  vsphere: Vsphere,
  changes: SnapshotChanges,
  snapshot: SnapshotRef,
  options: RemoveOptions = {},
): Promise<Removal> {
  const call = { signal: options.signal, subject: snapshot.vm.name }
  let removed = false
  try {
    const vm = await presentVm(vsphere, snapshot.vm, options.before?.vmPathName, call)
    if (vm === undefined) return { removed: false, consolidated: false }
    // The removal of a process that died meanwhile may still run; a second one is not started beside it.
    await waitTasksOf(vsphere, vm.moref, call)
    removed = await removeNode(vsphere, changes, vm, snapshot, call)
    return { removed, consolidated: await consolidate(vsphere, changes, vm, snapshot, options) }
  } catch (error) {
    // The VM was deleted while we were at it.
    if (isAgentError(error, 'NOT_FOUND') && (await presentVm(vsphere, snapshot.vm, options.before?.vmPathName, call)) === undefined) {
      return { removed, consolidated: false }
    }
    throw await withHolder(vsphere, error, snapshot, options)
  }
}

async function removeNode(
  vsphere: Vsphere,
  changes: SnapshotChanges,
  vm: PresentVm,
  snapshot: SnapshotRef,
  call: Abortable & { readonly subject: string },
): Promise<boolean> {
  const node = await nodeOf(vsphere, vm, snapshot, call)
  if (node === undefined) return false
  try {
    await changes.remove(vm, node, call)
  } catch (error) {
    // What counts is whether it is still there: a removal that failed while merging has taken it out of the list already.
    if (call.signal?.aborted === true || (await nodeOf(vsphere, vm, snapshot, call)) !== undefined) throw error
    vsphere.log.info('the snapshot is gone, but its removal reported an error', { vm: call.subject, error: toAgentError(error).message })
    return true
  }
  if ((await nodeOf(vsphere, vm, snapshot, call)) === undefined) return true
  throw new AgentError(
    'UNAVAILABLE',
    `The removal of the snapshot ${snapshot.name} of ${call.subject} reported success, but it is still there.`,
    {
      subject: call.subject,
      next: 'Look at the events of the VM in vCenter, then run "vcb recover".',
      retry: 'later',
    },
  )
}

/** Merges redo logs that no snapshot needs. Those that were there before our snapshot are not ours: they are reported and left. */
async function consolidate(
  vsphere: Vsphere,
  changes: SnapshotChanges,
  vm: PresentVm,
  snapshot: SnapshotRef,
  options: RemoveOptions,
): Promise<boolean> {
  const { before, signal } = options
  const call = { signal, subject: snapshot.vm.name }
  const now = await leftOver(vsphere, vm, call)
  if (!now.needed) return false
  if (before?.consolidationNeeded === true && now.links <= before.links) {
    vsphere.log.warn('the VM needed consolidation before our snapshot; the redo logs are not ours and are left', { vm: call.subject })
    return false
  }
  vsphere.log.info('the VM has left-over redo logs; consolidating', { vm: call.subject })
  await changes.consolidate(vm, call)
  if ((await leftOver(vsphere, vm, call)).needed) {
    throw new AgentError('CONFLICT', `${call.subject} still needs consolidation after ConsolidateVMDisks_Task reported success.`, {
      subject: call.subject,
      next: 'Look at the events of the VM in vCenter, then run "vcb recover".',
      retry: 'later',
    })
  }
  return true
}

async function leftOver(
  vsphere: Vsphere,
  vm: PresentVm,
  call: Abortable & { readonly subject: string },
): Promise<{ readonly needed: boolean; readonly links: number }> {
  const { props } = await retrieveOne(vsphere, vm.moref, ['runtime.consolidationNeeded', 'config.hardware.device'], call)
  const disks = parseDisks(props.get('config.hardware.device')?.items() ?? [])
  return { needed: props.get('runtime.consolidationNeeded')?.asBoolean() === true, links: linksOf(disks) }
}

/** Links of all chains together: grows by what a snapshot adds, and falls back when that is merged. */
export const linksOf = (disks: readonly { readonly chain: readonly string[] }[]): number =>
  disks.reduce((sum, disk) => sum + Math.max(1, disk.chain.length), 0)

/** The same error, with the name of the VM that has the locked file open where that can be found out. */
async function withHolder(vsphere: Vsphere, error: unknown, snapshot: SnapshotRef, options: Abortable): Promise<unknown> {
  const file = isFault(error, 'FileLocked') ? faultOf(error)?.detail?.string('file') : undefined
  if (file === undefined || !file.startsWith('[') || !isAgentError(error)) return error
  try {
    const holders = await attachedTo(vsphere, file, { type: 'VirtualMachine', value: snapshot.vm.moref }, options)
    if (holders.length === 0) return error
    return new AgentError(error.code, `${error.message} The disk is attached to ${holders.join(', ')}.`, {
      subject: snapshot.vm.name,
      next: `Detach ${file} from ${holders.join(', ')}, then run "vcb recover".`,
      retry: error.retry,
      cause: error,
    })
  } catch (second) {
    vsphere.log.debug('who holds the locked file could not be found out', { file, error: toAgentError(second).message })
    return error
  }
}
