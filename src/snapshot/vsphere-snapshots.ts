import {
  type Abortable,
  AgentError,
  type ClaimId,
  type DiskRef,
  isAgentError,
  type MoRef,
  type SnapshotRef,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import {
  consolidateDisks,
  createSnapshot,
  findVms,
  isFault,
  queryChangedDiskAreas,
  removeSnapshot,
  retrieveMany,
  retrieveOne,
  type SnapshotNode,
  snapshotTree,
  vmMoRef,
  type Vsphere,
  waitTasksOf,
  withConfigInfo,
} from '../vsphere/index.ts'
import { changedAreas } from './changed-areas.ts'
import { isNamedFor, snapshotName } from './snapshot-name.ts'
import type { Removal, SnapshotRequest, Snapshots } from './snapshots.ts'

/** Pauses between tries on a VM that is busy or a file that is locked: 1 s doubling up to a minute. ms */
const FIRST_PAUSE = 1000
const LONGEST_PAUSE = 60_000
/** How long a busy VM or a locked file is tried again, ms. */
const CREATE_FOR = 10 * 60_000
const REMOVE_FOR = 60 * 60_000

export function createSnapshots(vsphere: Vsphere): Snapshots {
  return Object.freeze({
    create: (vm: VmRef, request: SnapshotRequest, options?: Abortable) => create(vsphere, vm, request, options),
    find: (vm: VmRef, claim: ClaimId, options?: Abortable) => find(vsphere, vm, claim, options),
    configOf: (snapshot: SnapshotRef, base: VmConfig, options?: Abortable) => configOf(vsphere, snapshot, base, options),
    changed: (snapshot: SnapshotRef, disk: DiskRef, changeId: string, options?: Abortable) =>
      areas(vsphere, snapshot, disk, changeId, options),
    allocated: (snapshot: SnapshotRef, disk: DiskRef, options?: Abortable) => areas(vsphere, snapshot, disk, '*', options),
    remove: (snapshot: SnapshotRef, options?: Abortable) => remove(vsphere, snapshot, options),
  })
}

const snapshotMoRef = (snapshot: SnapshotRef): MoRef => ({ type: 'VirtualMachineSnapshot', value: snapshot.moref })

async function create(vsphere: Vsphere, vm: VmRef, request: SnapshotRequest, options?: Abortable): Promise<SnapshotRef> {
  const spec = {
    name: snapshotName(request.claim),
    description: request.description ?? 'Made by vcb-proxy for a backup; removed when the disks have been read.',
    quiesce: request.quiesce,
  }
  const moref = await patiently(vsphere, vm, CREATE_FOR, options, () =>
    createSnapshot(vsphere, vmMoRef(vm), spec, { ...options, subject: vm.name }),
  )
  const node = findNode(
    await snapshotTree(vsphere, vmMoRef(vm), { ...options, subject: vm.name }),
    ({ snapshot }) => snapshot.value === moref.value,
  )
  if (node === undefined)
    throw new AgentError('INTEGRITY', `The snapshot just made of ${vm.name} is not in its list of snapshots.`, { subject: vm.name })
  return refOf(vm, node)
}

async function find(vsphere: Vsphere, vm: VmRef, claim: ClaimId, options?: Abortable): Promise<SnapshotRef | undefined> {
  const moref = await presentMoRef(vsphere, vm, options)
  if (moref === undefined) return undefined
  try {
    await waitTasksOf(vsphere, moref, options)
    const node = findNode(await snapshotTree(vsphere, moref, options), ({ name }) => isNamedFor(name, claim))
    return node === undefined ? undefined : refOf({ ...vm, moref: moref.value }, node)
  } catch (error) {
    if (isAgentError(error, 'NOT_FOUND')) return undefined
    throw error
  }
}

/** The VM's reference now: the one known, unless it is gone or another VM has it; then by instance uuid. */
async function presentMoRef(vsphere: Vsphere, vm: VmRef, options?: Abortable): Promise<MoRef | undefined> {
  const [known] = await retrieveMany(vsphere, [vmMoRef(vm)], ['config.instanceUuid'], options)
  const uuid = known?.props.get('config.instanceUuid')?.text
  // A VM whose configuration cannot be read now is still the same reference.
  if (known !== undefined && (uuid === undefined || vm.instanceUuid === '' || uuid === vm.instanceUuid)) return known.obj
  if (vm.instanceUuid === '') return undefined
  const [again] = await findVms(vsphere, { by: 'uuid', uuid: vm.instanceUuid, instance: true }, options)
  return again
}

async function configOf(vsphere: Vsphere, snapshot: SnapshotRef, base: VmConfig, options?: Abortable): Promise<VmConfig> {
  const subject = `the snapshot of ${snapshot.vm.name}`
  const { props } = await retrieveOne(vsphere, snapshotMoRef(snapshot), ['config'], { ...options, subject })
  const config = props.get('config')
  if (config === undefined)
    throw new AgentError('UNAVAILABLE', `The configuration in ${subject} cannot be read.`, { subject: snapshot.vm.name })
  return withConfigInfo(base, config)
}

const areas = (vsphere: Vsphere, snapshot: SnapshotRef, disk: DiskRef, changeId: string, options?: Abortable) =>
  changedAreas(
    disk,
    (startOffset) =>
      queryChangedDiskAreas(
        vsphere,
        vmMoRef(snapshot.vm),
        { snapshot: snapshotMoRef(snapshot), deviceKey: disk.key, startOffset, changeId },
        { ...options, subject: `${snapshot.vm.name} ${disk.label}` },
      ),
    options,
  )

async function remove(vsphere: Vsphere, snapshot: SnapshotRef, options?: Abortable): Promise<Removal> {
  const { vm } = snapshot
  let removed = false
  try {
    await patiently(vsphere, vm, REMOVE_FOR, options, async () => {
      if (!(await exists(vsphere, snapshot, options))) return
      try {
        await removeSnapshot(vsphere, snapshotMoRef(snapshot), { ...options, subject: vm.name })
        removed = true
      } catch (error) {
        // What counts is whether it is still there: a removal that failed while merging has taken it out of the list already.
        if (isAgentError(error, 'CANCELED') || (await exists(vsphere, snapshot, options))) throw error
        removed = true
      }
    })
    return { removed, consolidated: await consolidate(vsphere, vm, options) }
  } catch (error) {
    if (isAgentError(error, 'NOT_FOUND') && (await isGone(vsphere, vm, options))) return { removed, consolidated: false }
    throw error
  }
}

async function exists(vsphere: Vsphere, snapshot: SnapshotRef, options?: Abortable): Promise<boolean> {
  const tree = await snapshotTree(vsphere, vmMoRef(snapshot.vm), { ...options, subject: snapshot.vm.name })
  // The name too: on a VM registered again a reference may come back as somebody else's snapshot.
  return findNode(tree, (node) => node.snapshot.value === snapshot.moref && node.name === snapshot.name) !== undefined
}

const isGone = async (vsphere: Vsphere, vm: VmRef, options?: Abortable): Promise<boolean> =>
  (await retrieveMany(vsphere, [vmMoRef(vm)], ['name'], options)).length === 0

async function consolidate(vsphere: Vsphere, vm: VmRef, options?: Abortable): Promise<boolean> {
  let consolidated = false
  await patiently(vsphere, vm, REMOVE_FOR, options, async () => {
    const { props } = await retrieveOne(vsphere, vmMoRef(vm), ['runtime.consolidationNeeded'], { ...options, subject: vm.name })
    if (props.get('runtime.consolidationNeeded')?.asBoolean() !== true) return
    vsphere.log.info('the VM has left-over redo logs; consolidating', { vm: vm.name })
    await consolidateDisks(vsphere, vmMoRef(vm), { ...options, subject: vm.name })
    consolidated = true
  })
  return consolidated
}

/** Faults that say "not now": the call changed nothing and may be made again. */
const NOT_NOW = [
  'TaskInProgress',
  'FileLocked',
  'ConcurrentAccess',
  'ResourceInUse',
  'CannotDeleteFile',
  'HostNotConnected',
  'HostCommunication',
]

/** Runs a change, again and again while the VM is busy or its files are locked, for `forMs` at most. */
async function patiently<T>(
  vsphere: Vsphere,
  vm: VmRef,
  forMs: number,
  options: Abortable | undefined,
  change: () => Promise<T>,
): Promise<T> {
  const until = vsphere.clock.monotonicMs() + forMs
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
    try {
      return await change()
    } catch (error) {
      if (!isFault(error, ...NOT_NOW) || vsphere.clock.monotonicMs() + pause > until) throw error
      vsphere.log.info('the VM is busy; trying again', {
        vm: vm.name,
        error: error instanceof Error ? error.message : String(error),
        pause,
      })
      await vsphere.clock.sleep(pause, options)
      await waitTasksOf(vsphere, vmMoRef(vm), options)
    }
  }
}

function findNode(nodes: readonly SnapshotNode[], test: (node: SnapshotNode) => boolean): SnapshotNode | undefined {
  for (const node of nodes) {
    const found = test(node) ? node : findNode(node.children, test)
    if (found !== undefined) return found
  }
  return undefined
}

const refOf = (vm: VmRef, node: SnapshotNode): SnapshotRef => ({
  vm,
  moref: node.snapshot.value,
  name: node.name,
  createdAt: node.createTime,
  quiesced: node.quiesced,
})
