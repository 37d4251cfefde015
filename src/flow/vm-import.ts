import {
  type BlockSource,
  type ClaimId,
  type DatastoreRef,
  type DiskFacts,
  type Marks,
  type MoRef,
  parseMark,
  safeFileName,
  type TransportName,
} from '../core/index.ts'
import type { BackupReader } from '../provider/index.ts'
import type { Refusal, WrittenDisk } from '../transport/index.ts'
import type { Placement, Vsphere } from '../vsphere/index.ts'

/** What every way of importing needs. */
export type VmImport = {
  readonly vsphere: Vsphere
  readonly reader: BackupReader
  readonly disks: readonly DiskFacts[]
  readonly placement: Placement
  readonly marks: Marks
  /** The name while it is being restored; the final one unless that is taken. */
  readonly name: string
  /** Old network name → name at the target; null = disconnected. */
  readonly networks: ReadonlyMap<string, string | null>
  readonly networkRefs: ReadonlyMap<string, MoRef>
  readonly keepIdentity: boolean
  /** The claim on the VM that is to be replaced: what the restored VM's own claim stands on. */
  readonly replaced: ClaimId | undefined
  readonly dropped: string[]
  readonly warnings: string[]
  /** A disk of the point, open. */
  readonly readDisk: (disk: DiskFacts) => Promise<BlockSource>
  /** The first error that `readDisk` or what it opened gave: no way to vSphere is to blame for it. */
  readonly readFailure: () => unknown
  /** Ways that were tried before this one, and why they were given up. */
  readonly refused: readonly Refusal[]
}

/** Whether a VM's annotation says that it is being restored under this claim: how the claim's releaser finds it. */
export const isRestoreOf = (annotation: string, claim: ClaimId): boolean => parseMark('vm', annotation)?.claim === claim

/** What an import gives back. */
export type Imported = {
  readonly vm: MoRef
  readonly claim: ClaimId
  /** Claims to strike from the journal once the VM is the user's, in this order: a crash between two leaves no VM without its files. */
  readonly keep: readonly ClaimId[]
  /** Whether thin disks are still thin. */
  readonly thin: boolean
  /** How each disk got there, by its label. */
  readonly disks: ReadonlyMap<string, RestoredBy>
  /** Takes the marks off that are not the VM's own; called when the VM has become the user's. */
  readonly unmark: () => Promise<void>
}

/** `[ds] directory` of a restored VM. Carries the claim, so that what a restore left is found by its name; the marker in it is the proof. */
export const restoreDirectory = (datastore: DatastoreRef, name: string, claim: ClaimId): string =>
  `[${datastore.name}] ${safeFileName(name)}-${claim}`

/** How a disk was restored. */
export type RestoredBy = Pick<WrittenDisk, 'transport' | 'reason' | 'refused' | 'resumed'> & {
  /** Bytes sent, where they are counted. */
  readonly writtenBytes?: number | undefined
}

/** All disks by a way that takes the whole VM. */
export function wholly(work: VmImport, transport: TransportName, reason: string): ReadonlyMap<string, RestoredBy> {
  const by: RestoredBy = { transport, reason, refused: work.refused, resumed: 0 }
  return new Map(work.disks.map(({ label }) => [label, by]))
}
