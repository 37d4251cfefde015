import { type ClaimId, createIds, type SnapshotRef, silentLog, systemClock, type TransportClaims } from '../../src/core/index.ts'
import { createReleasePatience, createReleasers } from '../../src/flow/index.ts'
import { transportClaims } from '../../src/flow/transport-claims.ts'
import { describeVm, selectVms } from '../../src/inventory/index.ts'
import { createClaims, MemoryJournal, systemProcesses, type VmLocks } from '../../src/journal/index.ts'
import { createSnapshots, linksOf } from '../../src/snapshot/index.ts'
import { ProxyGuest, type SnapshotDisk } from '../../src/transport/index.ts'
import type { Vsphere } from '../../src/vsphere/index.ts'

/** The disks of a VM as a snapshot froze them, in the order of their keys; disposal removes the snapshot, and fails when a claim stays. */
export type FrozenDisks = AsyncDisposable & {
  readonly snapshot: SnapshotRef
  readonly disks: readonly SnapshotDisk[]
  /** What transports hold their things by: the product's own claims and releasers, over a journal in memory. */
  readonly claims: TransportClaims
  /** Kinds of what is held now beside the snapshot. */
  held(): readonly string[]
}

/** This machine is no proxy VM. */
export const NO_PROXY = new ProxyGuest({ sysfs: '/nowhere', devices: '/nowhere', appearMs: 0, clock: systemClock })

/** Nothing here locks a VM. */
const noLocks: VmLocks = {
  acquire: () => Promise.reject(new Error('no lock was asked for')),
  refusal: async () => undefined,
  find: async () => undefined,
  release: async () => undefined,
}

/** `guest` = the inside of the proxy VM that disks are attached to; none when absent. */
export async function freezeDisks(vsphere: Vsphere, name: string, guest: ProxyGuest = NO_PROXY): Promise<FrozenDisks> {
  const [vm] = await selectVms(vsphere, [`name:${name}`])
  if (vm === undefined) throw new Error(`there is no VM ${name}`)
  const before = await describeVm(vsphere, vm)
  const snapshots = createSnapshots(vsphere)
  const journal = new MemoryJournal(systemClock, createIds(), await systemProcesses.self())
  const patience = createReleasePatience({ clock: systemClock, log: silentLog, forMs: 10_000 })
  const releasers = createReleasers({ vsphere: async () => vsphere, locks: noLocks, patience, clock: systemClock, guest })
  const claims = createClaims(journal, releasers, await journal.begin('test', { vm: name }))
  // So that a removal tells the redo logs of a user's snapshots from its own.
  const asBefore = { vmPathName: before.vmPathName, consolidationNeeded: before.consolidationNeeded, links: linksOf(before.disks) }
  const { ref: snapshot, id } = await claims.take('snapshot', { vm, quiesce: false, before: asBefore }, [], (claim: ClaimId) =>
    snapshots.create(vm, { claim }),
  )
  const config = await snapshots.configOf(snapshot, before)
  return {
    snapshot,
    disks: config.disks.toSorted((a, b) => a.key - b.key).map((disk) => ({ snapshot, config, disk })),
    claims: transportClaims(claims, [id]),
    held: () => claims.held.map(({ kind }) => kind).filter((kind) => kind !== 'snapshot'),
    [Symbol.asyncDispose]: () => claims[Symbol.asyncDispose](),
  }
}
