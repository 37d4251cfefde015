import {
  type Abortable,
  AgentError,
  type ClaimId,
  type DiskRef,
  isAgentError,
  type MoRef,
  type SnapshotRef,
  throwIfAborted,
  toAgentError,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import {
  faultOf,
  isNotNow,
  type Patience,
  patiently,
  queryChangedDiskAreas,
  retrieveOne,
  snapshotTree,
  vmMoRef,
  type Vsphere,
  waitTasksOf,
  withConfigInfo,
} from '../vsphere/index.ts'
import { apiChanges } from './api-changes.ts'
import { changedAreas } from './changed-areas.ts'
import { findNode, nodeOfClaim, refOf } from './own-snapshot.ts'
import { presentVm } from './present-vm.ts'
import { removeOwnSnapshot } from './remove-snapshot.ts'
import type { SnapshotChanges } from './snapshot-changes.ts'
import { isNamedFor, snapshotName } from './snapshot-name.ts'
import type { FindOptions, RemoveOptions, SnapshotRequest, Snapshots } from './snapshots.ts'

/** How long a VM that is busy is tried again, ms. */
const CREATE_FOR = 10 * 60_000
/** For how long a snapshot whose intent is younger than `YOUNG_MS` is looked for again and again before it is believed not to be, ms. */
const SETTLE_MS = 3_000
const SETTLE_PAUSE_MS = 500
const YOUNG_MS = 10 * 60_000

/** `changes`: who carries out what changes a VM's snapshots; the API when absent. */
export function createSnapshots(vsphere: Vsphere, changes: SnapshotChanges = apiChanges(vsphere)): Snapshots {
  return Object.freeze({
    create: (vm: VmRef, request: SnapshotRequest, options?: Abortable) => create(vsphere, changes, vm, request, options),
    find: (vm: VmRef, claim: ClaimId, options?: FindOptions) => find(vsphere, vm, claim, options),
    configOf: (snapshot: SnapshotRef, base: VmConfig, options?: Abortable) => configOf(vsphere, snapshot, base, options),
    changed: (snapshot: SnapshotRef, disk: DiskRef, changeId: string, options?: Abortable) =>
      areas(vsphere, snapshot, disk, changeId, options),
    allocated: (snapshot: SnapshotRef, disk: DiskRef, options?: Abortable) => areas(vsphere, snapshot, disk, '*', options),
    remove: (snapshot: SnapshotRef, options?: RemoveOptions) => removeOwnSnapshot(vsphere, changes, snapshot, options),
  })
}

const snapshotMoRef = (snapshot: SnapshotRef): MoRef => ({ type: 'VirtualMachineSnapshot', value: snapshot.moref })

async function create(
  vsphere: Vsphere,
  changes: SnapshotChanges,
  vm: VmRef,
  request: SnapshotRequest,
  options?: Abortable,
): Promise<SnapshotRef> {
  const spec = {
    name: snapshotName(request.claim),
    description: request.description ?? 'Made by vcb-proxy for a backup; removed when the disks have been read.',
    quiesce: request.quiesce,
  }
  const patience: Patience = {
    clock: vsphere.clock,
    log: vsphere.log,
    subject: vm.name,
    forMs: CREATE_FOR,
    signal: options?.signal,
    passes: isNotNow,
  }
  let tries = 0
  await patiently(patience, async () => {
    if (tries++ > 0) await waitTasksOf(vsphere, vmMoRef(vm), { ...options, subject: vm.name, forMs: CREATE_FOR })
    return (request.within ?? ((call) => call({ ...options })))((abortable) =>
      changes.create(vm, spec, { ...options, ...abortable, subject: vm.name }),
    )
  }).catch(async (error: unknown) => {
    await awaitDoubtful(vsphere, vm, request.claim, error)
    throwIfAborted(options)
    throw error
  })
  const tree = await snapshotTree(vsphere, vmMoRef(vm), { ...options, subject: vm.name })
  const node = findNode(tree, ({ name }) => isNamedFor(name, request.claim))
  if (node === undefined)
    throw new AgentError('INTEGRITY', `The snapshot just made of ${vm.name} is not in its list of snapshots.`, { subject: vm.name })
  return refOf(vm, node)
}

/**
 * A call whose answer was lost may still be carried out, and a server may forget a task that it goes on working at. So before anybody believes
 * that there is no snapshot, it is given a moment to appear. Returns when it has, or the moment is over; the error stays the caller's.
 */
async function awaitDoubtful(vsphere: Vsphere, vm: VmRef, claim: ClaimId, error: unknown): Promise<void> {
  if (faultOf(error) !== undefined || !isAgentError(error, 'UNAVAILABLE', 'INTEGRITY', 'CANCELED')) return
  try {
    await find(vsphere, vm, claim, { intendedAt: vsphere.clock.now() })
  } catch (second) {
    vsphere.log.debug('whether the snapshot came to be is not known yet', { vm: vm.name, error: toAgentError(second).message })
  }
}

async function find(vsphere: Vsphere, vm: VmRef, claim: ClaimId, options: FindOptions = {}): Promise<SnapshotRef | undefined> {
  const call = { signal: options.signal, subject: vm.name }
  const { clock } = vsphere
  // By the distance, so that a clock that stepped back does not make an old intent a future one.
  const young = options.intendedAt !== undefined && Math.abs(clock.now().getTime() - options.intendedAt.getTime()) < YOUNG_MS
  const until = clock.monotonicMs() + (young ? SETTLE_MS : 0)
  try {
    for (;;) {
      const present = await presentVm(vsphere, vm, options.before?.vmPathName, call)
      if (present === undefined) return undefined
      await waitTasksOf(vsphere, present.moref, call)
      const node = await nodeOfClaim(vsphere, present, claim, call)
      if (node !== undefined) return refOf({ ...vm, moref: present.moref.value }, node)
      if (clock.monotonicMs() >= until) return undefined
      await clock.sleep(SETTLE_PAUSE_MS, call)
    }
  } catch (error) {
    if (isAgentError(error, 'NOT_FOUND')) return undefined
    throw error
  }
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
