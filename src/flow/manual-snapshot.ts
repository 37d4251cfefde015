import {
  type Abortable,
  AgentError,
  type ClaimId,
  type Clock,
  type ConsistencyLevel,
  type Log,
  type QuiescePolicy,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import { describeVm } from '../inventory/index.ts'
import type { Claims, VmLocks } from '../journal/index.ts'
import { snapshotProduct } from '../orphans/index.ts'
import { takeConsistent } from '../quiesce/index.ts'
import { claimOfName, linksOf, type SnapshotChanges } from '../snapshot/index.ts'
import { type SnapshotNode, snapshotTree, vmMoRef, type Vsphere, waitTasksOf } from '../vsphere/index.ts'

export type ManualSnapshotDeps = {
  readonly vsphere: Vsphere
  readonly changes: SnapshotChanges
  readonly locks: VmLocks
  readonly clock: Clock
  readonly log: Log
}

export type ManualSnapshotRequest = {
  readonly vm: VmRef
  /** What the user calls it. */
  readonly name: string
  readonly description?: string | undefined
  readonly quiesce: QuiescePolicy
  readonly freezeLimitMs: number
  /** Tells this snapshot from others of its name; random. */
  readonly token: string
}

export type ManualSnapshot = { readonly node: SnapshotNode; readonly level: ConsistencyLevel; readonly reason: string }

/** Begins the description of every snapshot that a user has made with `vcbSnapshot`. No mark of ours: nothing but a user's wish removes one. */
const SENTENCE = 'Made with vcbSnapshot of vcb-proxy; it is kept until somebody removes it.'

/** vSphere's own limit of a snapshot's name, characters. */
const LONGEST_NAME = 80

export const isManual = ({ description }: SnapshotNode): boolean => description.startsWith(SENTENCE)

/**
 * Makes a snapshot that belongs to the user, not to a job: lock → quiesce, snapshot, thaw → unlock by the caller's claims. It is no claim and carries no
 * mark, so neither recovery nor `vcb orphans` takes it for ours. A process that dies in the middle may leave it behind, under its name. USAGE for a name
 * that would be taken for ours; CONFLICT, GUEST, CAPACITY, UNAVAILABLE.
 */
export async function takeManualSnapshot(
  deps: ManualSnapshotDeps,
  claims: Claims,
  request: ManualSnapshotRequest,
  options: Abortable = {},
): Promise<ManualSnapshot> {
  const { vsphere, changes } = deps
  const { vm, name } = request
  refuseName(name)
  const lock = await claims.take('vmLock', { vm }, [], (claim) => deps.locks.acquire(vm, claim))
  const call = { ...options, subject: vm.name }
  const config = await describeVm(vsphere, vm, options)
  if (config.isTemplate) throw new AgentError('USAGE', `${vm.name} is a template, which vSphere cannot snapshot.`, { subject: vm.name })
  const description = [`${SENTENCE} id=${request.token}`, ...(request.description === undefined ? [] : [request.description])].join('\n')
  const made: SnapshotNode[] = []
  try {
    const { taken, level, reason } = await takeConsistent(
      config,
      request.quiesce,
      async (quiesce, within) => {
        await waitTasksOf(vsphere, vmMoRef(vm), call)
        const create = (abortable: Abortable): Promise<void> =>
          changes.create(vm, { name, description, quiesce }, { ...call, ...abortable })
        await (within === undefined ? create({}) : within(create))
        const node = findNode(await snapshotTree(vsphere, vmMoRef(vm), call), (one) => one.description === description)
        if (node === undefined)
          throw new AgentError('INTEGRITY', `The snapshot just made of ${vm.name} is not in its list of snapshots.`, { subject: vm.name })
        made.push(node)
        return node
      },
      { clock: deps.clock, log: deps.log, freezeLimitMs: request.freezeLimitMs, signal: options.signal },
    )
    return { node: taken, level, reason }
  } catch (error) {
    // The policy refuses what it reached: the user gets an error and no snapshot.
    for (const node of made) await remove(claims, lock.id, config, node)
    throw error
  }
}

function refuseName(name: string): void {
  const next = 'Choose another name.'
  if (name === '' || name.length > LONGEST_NAME)
    throw new AgentError('USAGE', `The name of a snapshot has 1 to ${LONGEST_NAME} characters.`, { subject: name, next })
  if (claimOfName(name) !== undefined)
    throw new AgentError('USAGE', `${JSON.stringify(name)} is a name that vcb gives to the snapshots of its jobs.`, { subject: name, next })
}

/**
 * Removes the snapshot `id` of a VM at its user's wish; lock → remove → merge what it left. NOT_FOUND; CONFLICT for a snapshot of a job of ours (whose
 * release is the journal's), and for one that bears the name of another backup product and was not made with vcbSnapshot.
 */
export async function removeManualSnapshot(
  deps: ManualSnapshotDeps,
  claims: Claims,
  vm: VmRef,
  id: string,
  options: Abortable = {},
): Promise<void> {
  const lock = await claims.take('vmLock', { vm }, [], (claim) => deps.locks.acquire(vm, claim))
  const node = await findManualSnapshot(deps.vsphere, vm, id, options)
  const subject = vm.name
  if (claimOfName(node.name) !== undefined)
    throw new AgentError('CONFLICT', `The snapshot ${node.name} of ${vm.name} was made by a job of vcb, which removes it itself.`, {
      subject,
      next: 'See "vcb status"; "vcb recover" and "vcb orphans" release what dead processes left.',
    })
  const product = isManual(node) ? undefined : snapshotProduct(node.name)?.product
  if (product !== undefined)
    throw new AgentError('CONFLICT', `The snapshot ${node.name} of ${vm.name} bears the name of ${product}, which may be using it.`, {
      subject,
      next: 'Remove it in vSphere when you are certain that nobody uses it.',
    })
  await remove(claims, lock.id, await describeVm(deps.vsphere, vm, options), node)
}

/** The snapshot of a VM with this reference. NOT_FOUND. */
export async function findManualSnapshot(vsphere: Vsphere, vm: VmRef, id: string, options: Abortable = {}): Promise<SnapshotNode> {
  const tree = await snapshotTree(vsphere, vmMoRef(vm), { ...options, subject: vm.name })
  const node = findNode(tree, ({ snapshot }) => snapshot.value === id)
  if (node !== undefined) return node
  throw new AgentError('NOT_FOUND', `${vm.name} has no snapshot ${id}.`, {
    subject: vm.name,
    next: 'List its snapshots with "vcbSnapshot -l" and name one of those.',
  })
}

/** By the one way on which snapshots go: a claim, whose releaser removes and merges. A process that dies meanwhile leaves the rest to recovery. */
async function remove(claims: Claims, lock: ClaimId, config: VmConfig, node: SnapshotNode): Promise<void> {
  const { vm, vmPathName, consolidationNeeded, disks } = config
  const { snapshot, name, createTime, quiesced } = node
  const before = { vmPathName, consolidationNeeded, links: linksOf(disks) }
  const held = await claims.take('snapshot', { vm, quiesce: quiesced, before }, [lock], async () => ({
    vm,
    moref: snapshot.value,
    name,
    createdAt: createTime,
    quiesced,
    anyName: true as const,
  }))
  await claims.release(held.id)
}

function findNode(nodes: readonly SnapshotNode[], test: (node: SnapshotNode) => boolean): SnapshotNode | undefined {
  for (const node of nodes) {
    const found = test(node) ? node : findNode(node.children, test)
    if (found !== undefined) return found
  }
  return undefined
}
