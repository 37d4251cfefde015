import { AgentError, type MoRef, type Range, VSS_BACKUP_TYPES, type WindowsQuiesce } from '../core/index.ts'
import { retrieveOne } from './property-collector.ts'
import { resultRef, runTask, type TaskOptions } from './task.ts'
import { compareVersions } from './versions.ts'
import { data, typed, type VimData } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** What CreateSnapshot asks the guest for. */
export type GuestQuiesce = {
  /** 5..240 minutes; the server's own limit when absent. Not known to servers before 6.5. */
  readonly timeoutMinutes?: number | undefined
  /** Of a Windows guest; not known to servers before 6.5 either. */
  readonly windows?: WindowsQuiesce | undefined
}

/** A node of `VirtualMachine.snapshot.rootSnapshotList`. */
export type SnapshotNode = {
  readonly snapshot: MoRef
  readonly name: string
  readonly description: string
  /** ISO 8601 as the server wrote it. */
  readonly createTime: string
  readonly quiesced: boolean
  readonly children: readonly SnapshotNode[]
}

/** Servers give a snapshot's name with `%` written %25; `/` and `\` likewise. */
const decode = (name: string): string => name.replaceAll(/%(2f|5c|25)/gi, (code) => String.fromCharCode(Number.parseInt(code.slice(1), 16)))

/**
 * CreateSnapshotEx_Task where the server has it (6.5), else CreateSnapshot_Task; never with memory. `%` in the name is escaped. The server
 * drops the wish to quiesce without a word when the VM is off or has no Tools: look at `quiesced` in the tree. Not idempotent.
 */
export async function createSnapshot(
  vsphere: Vsphere,
  vm: MoRef,
  spec: { readonly name: string; readonly description: string; readonly quiesce?: GuestQuiesce | undefined },
  options?: TaskOptions,
): Promise<MoRef> {
  const common = { name: spec.name.replaceAll('%', '%25'), description: spec.description, memory: false }
  const { quiesce } = spec
  if (takesQuiesceSpec(vsphere)) {
    try {
      const quiesceSpec = quiesce === undefined ? undefined : quiesceSpecOf(quiesce)
      return resultRef(await runTask(vsphere, 'CreateSnapshotEx_Task', vm, { ...common, quiesceSpec }, options), 'snapshot')
    } catch (error) {
      // A plain refusal of the method itself: nothing was started.
      if (!isFault(error, 'MethodNotFound')) throw error
    }
  }
  return resultRef(await runTask(vsphere, 'CreateSnapshot_Task', vm, { ...common, quiesce: quiesce !== undefined }, options), 'snapshot')
}

/** Whether a server can be told how to quiesce, beyond that it should (CreateSnapshotEx_Task, API 6.5). */
export const takesQuiesceSpec = ({ about }: Vsphere): boolean => compareVersions(about.apiVersion, '6.5') >= 0

function quiesceSpecOf({ timeoutMinutes, windows }: GuestQuiesce): VimData {
  if (windows === undefined) return typed('VirtualMachineGuestQuiesceSpec', { timeout: timeoutMinutes })
  const { context, backupType, bootableSystemState, partialFileSupport } = windows
  return typed('VirtualMachineWindowsQuiesceSpec', {
    timeout: timeoutMinutes,
    vssBackupType: backupType === undefined ? undefined : VSS_BACKUP_TYPES.indexOf(backupType) + 1,
    vssBootableSystemState: bootableSystemState,
    vssPartialFileSupport: partialFileSupport,
    vssBackupContext: context === undefined ? undefined : CONTEXTS[context],
  })
}

const CONTEXTS = { auto: 'ctx_auto', backup: 'ctx_backup', 'file-share': 'ctx_file_share_backup' } as const

/**
 * RemoveSnapshot_Task with removeChildren=false, consolidate=true: the snapshot goes, its data stays in the chain. An abort leaves the task to
 * run. NOT_FOUND, CONFLICT.
 */
export async function removeSnapshot(vsphere: Vsphere, snapshot: MoRef, options?: TaskOptions): Promise<void> {
  await runTask(vsphere, 'RemoveSnapshot_Task', snapshot, { removeChildren: false, consolidate: true }, { ...options, leave: true })
}

/** The VM's snapshots, ours and others'; empty when it has none. NOT_FOUND when the VM is gone, AUTH when they may not be seen. */
export async function snapshotTree(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<readonly SnapshotNode[]> {
  const { props, missing } = await retrieveOne(vsphere, vm, ['snapshot'], options)
  const unseen = missing.get('snapshot')
  if (unseen !== undefined) {
    // Not to be seen is not the same as not there.
    throw new AgentError(
      unseen === 'NoPermission' ? 'AUTH' : 'UNAVAILABLE',
      `The snapshots of ${options?.subject ?? vm.value} cannot be read at ${vsphere.host} (${unseen}).`,
      { subject: options?.subject ?? vm.value, retry: unseen === 'NoPermission' ? 'never' : 'later' },
    )
  }
  return parseSnapshots(props.get('snapshot'))
}

/** The trees of a VM's `snapshot` property; empty when it is unset. */
export const parseSnapshots = (snapshot: VimNode | undefined): readonly SnapshotNode[] =>
  (snapshot?.all('rootSnapshotList') ?? []).map(parseNode)

function parseNode(node: VimNode): SnapshotNode {
  const snapshot = node.ref('snapshot')
  if (snapshot === undefined) throw new AgentError('INTEGRITY', 'The server listed a snapshot without its reference.')
  return {
    snapshot,
    name: decode(node.string('name') ?? ''),
    description: node.string('description') ?? '',
    createTime: node.string('createTime') ?? '',
    quiesced: node.boolean('quiesced') ?? false,
    children: node.all('childSnapshotList').map(parseNode),
  }
}

/** ConsolidateVMDisks_Task: merges redo logs no snapshot needs; an abort leaves it to run. Idempotent. CONFLICT (FileLocked, TaskInProgress), CAPACITY. */
export async function consolidateDisks(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void> {
  await runTask(vsphere, 'ConsolidateVMDisks_Task', vm, {}, { ...options, leave: true })
}

/** One answer of QueryChangedDiskAreas as the server gave it. Bytes; nothing is checked here. */
export type ChangedWindow = { readonly startOffset: number; readonly length: number; readonly areas: readonly Range[] }

/** Changed since `changeId`, or in use for `*`, from `startOffset` on. Called until the disk is covered. */
export async function queryChangedDiskAreas(
  vsphere: Vsphere,
  vm: MoRef,
  query: { readonly snapshot?: MoRef | undefined; readonly deviceKey: number; readonly startOffset: number; readonly changeId: string },
  options?: CallOptions,
): Promise<ChangedWindow> {
  const { snapshot, deviceKey, startOffset, changeId } = query
  const [answer] = await vsphere.call('QueryChangedDiskAreas', vm, { snapshot, deviceKey, startOffset, changeId }, options)
  const start = answer?.number('startOffset')
  const length = answer?.number('length')
  if (answer === undefined || start === undefined || length === undefined) {
    throw new AgentError('INTEGRITY', `${vsphere.host} gave no usable answer about changed areas.`, { subject: options?.subject })
  }
  const areas = answer
    .all('changedArea')
    .map((area) => ({ offset: area.number('start') ?? Number.NaN, length: area.number('length') ?? Number.NaN }))
  return { startOffset: start, length, areas }
}

/** ReconfigVM_Task. `spec` is a VirtualMachineConfigSpec. CONFLICT, CONFIG. */
export async function reconfigureVm(vsphere: Vsphere, vm: MoRef, spec: VimData, options?: TaskOptions): Promise<void> {
  await runTask(vsphere, 'ReconfigVM_Task', vm, { spec }, options)
}

/** ReconfigVM_Task with changeTrackingEnabled; takes hold at the next stun. Idempotent. */
export const setChangeTracking = (vsphere: Vsphere, vm: MoRef, enabled: boolean, options?: TaskOptions): Promise<void> =>
  reconfigureVm(vsphere, vm, data({ changeTrackingEnabled: enabled }), options)
