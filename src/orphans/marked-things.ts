import type { Abortable, AttachedDisk, ClaimId, Mark, SnapshotRef } from '../core/index.ts'
import { loadInventoryTree, type Vsphere } from '../vsphere/index.ts'
import type { ProxyGuest } from '../transport/index.ts'
import { scanAttached } from './scan-attached.ts'
import { scanDirectories } from './scan-directories.ts'
import { scanVms } from './scan-vms.ts'
import type { LayoutFile } from './vm-layout.ts'

/** Something in vSphere with our mark on it, or that is named as only we name things. `mark` absent: no proof whose it is. */
export type MarkedObject = {
  readonly mark: Mark | undefined
  readonly claim: ClaimId
  readonly name: string
  /** Inventory path of the VM, or datastore path. */
  readonly path: string
  /** When it was made, as vSphere or else the mark says. ISO 8601. */
  readonly since: string | undefined
  readonly bytes: number | undefined
  /** Why it may be somebody else's in spite of the mark; one clause. */
  readonly doubt: string | undefined
  readonly what:
    | { readonly kind: 'snapshot'; readonly ref: SnapshotRef }
    | { readonly kind: 'vm'; readonly moref: string; readonly vmPathName: string }
    | { readonly kind: 'directory'; readonly datacenter: string; readonly path: string }
    | { readonly kind: 'disk'; readonly attached: AttachedDisk; readonly key: number }
}

/** A snapshot that another product, or VMware itself, left or is using. */
export type ForeignSnapshot = {
  readonly product: string
  /** Inventory path of the VM. */
  readonly path: string
  readonly name: string
  readonly createdAt: string
  readonly bytes: number | undefined
}

export type NeedsConsolidation = {
  /** Inventory path of the VM. */
  readonly path: string
  /** Redo logs that no snapshot needs. */
  readonly redoLogs: readonly LayoutFile[]
  readonly bytes: number
  /** The oldest of them was last written then, so the trouble is at least so old. ISO 8601. */
  readonly since: string | undefined
}

/** Where a search could not look, and why: what it says about the rest is no less true. */
export type Unseen = { readonly where: string; readonly reason: string }

export type MarkScan = {
  readonly marked: readonly MarkedObject[]
  readonly foreign: readonly ForeignSnapshot[]
  readonly consolidation: readonly NeedsConsolidation[]
  readonly unseen: readonly Unseen[]
}

/**
 * Every trace of ours at one vCenter or ESXi, the snapshots of other known products, and the VMs that need consolidation. Changes nothing. One pass
 * over the VMs, page by page; layouts only of those where something was found; one search per datastore, of its top directory alone. Disks
 * attached by us are looked for on the VM this process runs in, if it is one.
 */
export async function findMarked(vsphere: Vsphere, guest: ProxyGuest, options?: Abortable): Promise<MarkScan> {
  const tree = await loadInventoryTree(vsphere, options)
  const vms = await scanVms(vsphere, tree, options)
  const directories = await scanDirectories(vsphere, tree, options)
  const attached = await scanAttached(vsphere, guest, options)
  return {
    marked: withCopies([...vms.marked, ...directories.marked, ...attached.marked]),
    foreign: vms.foreign,
    consolidation: vms.consolidation,
    unseen: [...vms.unseen, ...directories.unseen, ...attached.unseen],
  }
}

/** One claim makes one thing. Where two carry the same mark, one is a copy that somebody made, and nobody can tell which. */
function withCopies(marked: readonly MarkedObject[]): readonly MarkedObject[] {
  const seen = Map.groupBy(marked, ({ what, claim }) => `${what.kind} ${claim}`)
  return marked.map((one) => {
    const others = (seen.get(`${one.what.kind} ${one.claim}`) ?? []).filter((other) => other !== one)
    return others[0] === undefined ? one : { ...one, doubt: one.doubt ?? `${others[0].path} carries the same mark, so one is a copy` }
  })
}
