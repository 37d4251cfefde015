import { type ClaimId, type DatastoreRef, type DiskFacts, type MoRef, safeFileName } from '../core/index.ts'
import type { BackupReader } from '../provider/index.ts'
import type { Placement, Vsphere } from '../vsphere/index.ts'

/** What both ways of importing need. */
export type VmImport = {
  readonly vsphere: Vsphere
  readonly reader: BackupReader
  readonly disks: readonly DiskFacts[]
  readonly placement: Placement
  /** The name while it is being restored; the final one unless that is taken. */
  readonly name: string
  /** Old network name → name at the target; null = disconnected. */
  readonly networks: ReadonlyMap<string, string | null>
  readonly networkRefs: ReadonlyMap<string, MoRef>
  readonly keepIdentity: boolean
  readonly dropped: string[]
  readonly warnings: string[]
}

/** The note a VM carries while it is restored: how the claim's releaser finds it. */
export const restoreMark = (claim: ClaimId): string => `vcb-proxy restore ${claim}: being restored, do not use`

/** What an import gives back. */
export type Imported = {
  readonly vm: MoRef
  readonly claim: ClaimId
  /** Claims to strike from the journal once the VM is the user's. */
  readonly keep: readonly ClaimId[]
  /** Whether thin disks are still thin. */
  readonly thin: boolean
}

/** `[ds] directory` of a restored VM; carries the claim, so that the directory is provably ours. */
export const restoreDirectory = (datastore: DatastoreRef, name: string, claim: ClaimId): string =>
  `[${datastore.name}] ${safeFileName(name)}-${claim.slice(0, 8)}`
