/**
 * The face of a running lab for tests and the demo. `startLab` makes it; the `vcb lab` command reaches the same things over `/lab/…`.
 */

import type { GuestEvent } from '../guest/index.ts'
import type { ActiveFault, FaultRule } from '../model/index.ts'
import type { NfcSessionState } from '../nfc/index.ts'

export type LabEndpoint = {
  /** `https://127.0.0.1:PORT`, without path; SOAP is at `/sdk`, files at `/folder`, leases at `/nfc`, control at `/lab` (vCenter only). */
  readonly url: string
  readonly host: string
  readonly port: number
  /** SHA-256 of the DER certificate, upper-case hex pairs joined by `:`. */
  readonly thumbprint: string
  /** SHA-1 of the same, as VMware's own interfaces name it. */
  readonly sha1: string
}

/** The shell of a host: root, by the lab's password asked for interactively or by `sshKeyFile`. */
export type LabSsh = {
  /** As the inventory names it. */
  readonly host: string
  readonly address: string
  readonly port: number
  /** `SHA256:…`. */
  readonly hostKey: string
}

/** A digest of one disk, of its current state or of a snapshot's frozen image. */
export type DiskDigest = {
  /** Device key in the VM's config. */
  readonly key: number
  /** `scsi0:1`. */
  readonly label: string
  /** Bytes. */
  readonly capacityBytes: number
  /**
   * Lower-case hex SHA-256 over the whole image as the guest saw it. Beyond 64 GiB `kind` is `content`: SHA-256 over (u64 LE offset, bytes) of
   * each 1 MiB block that is not all zeros.
   */
  readonly sha256: string
  readonly kind: 'sha256' | 'content'
}

export type SnapshotDigests = {
  /** moref of the snapshot on the vCenter endpoint. */
  readonly snapshot: string
  readonly name: string
  readonly createdAt: string
  readonly quiesced: boolean
  readonly disks: readonly DiskDigest[]
}

/** What a VM is named by in the lab's own commands: its name, its moref, or its instance uuid. */
export type LabVmName = string

export type WriteRequest = {
  /** Numbered, checksummed records to append, each to every disk of the workload. Default 1 when nothing else is asked for. */
  readonly records?: number | undefined
  /** Bytes of random data to write to one disk (`disk`, default the first). */
  readonly bytes?: number | undefined
  /** Percentage (0–100) of one disk to overwrite in scattered places. */
  readonly percent?: number | undefined
  /** Device key. */
  readonly disk?: number | undefined
  /** Exact areas of one disk to overwrite with random data, bytes. */
  readonly areas?: readonly { readonly offset: number; readonly length: number }[] | undefined
  /** Size of each scattered write, bytes; default 65536. */
  readonly unit?: number | undefined
  /** Keeps random writes repeatable. */
  readonly seed?: number | undefined
}

export type WriteResult = {
  readonly vm: string
  /** Number of the last record on the disks; 0 when there is none. */
  readonly lastRecord: number
  readonly written: readonly { readonly key: number; readonly bytes: number; readonly areas: number }[]
}

/** What the records on the disks of one VM say. */
export type FsckReport = {
  readonly vm: string
  /** Snapshot's moref, or undefined for the current state. */
  readonly snapshot?: string | undefined
  /** Every record intact and numbered without a gap on each disk. */
  readonly ok: boolean
  /** All disks show the same last record: what a quiesced snapshot promises. */
  readonly sameRecord: boolean
  readonly disks: readonly {
    readonly key: number
    readonly label: string
    readonly lastRecord: number
    readonly records: number
    readonly problems: readonly string[]
  }[]
}

export type Capability = {
  readonly area: string
  readonly name: string
  readonly simulated: boolean
  /** Where it differs from the real thing. */
  readonly note?: string | undefined
}

/** Disks and guests, from outside the protocols. */
export interface LabDisks {
  /** The guest writes, through its current redo logs; the VM need not run. */
  write(vm: LabVmName, request?: WriteRequest): Promise<WriteResult>
  /** Digests of all disks (or the one with key `disk`) now, or of a snapshot's frozen image (`snapshot`: name or moref). */
  sha256(
    vm: LabVmName,
    options?: { readonly disk?: number | undefined; readonly snapshot?: string | undefined },
  ): Promise<readonly DiskDigest[]>
  /** Checks the guest's records on every disk. */
  fsck(vm: LabVmName, options?: { readonly snapshot?: string | undefined }): Promise<FsckReport>
  /** Digests recorded when a snapshot was made (scenario `recordDigests`), oldest first; kept after the snapshot is gone. */
  digestsAtSnapshot(vm: LabVmName): Promise<readonly SnapshotDigests[]>
  /** Starts (rate in records a second) or stops (0) the guest's workload. */
  workload(vm: LabVmName, recordsPerSecond: number): Promise<void>
}

/** Fault rules at run time. */
export interface LabFaults {
  /** Adds a rule; returns its id. */
  fault(rule: FaultRule): Promise<string>
  faults(): Promise<readonly ActiveFault[]>
  /** Removes one rule or all. */
  clearFaults(id?: string): Promise<void>
}

/** What is there right now. */
export interface LabFacts {
  state(): Promise<LabState>
  /** What happened in a VM's guest since the lab started: programs, freezes. */
  guestHistory(vm: LabVmName): Promise<readonly GuestEvent[]>
  /** Files that guest operations can see there. */
  guestFiles(vm: LabVmName): Promise<readonly string[]>
  capabilities(): readonly Capability[]
}

/** Sizes that a real administrator would change on the array. */
export interface LabSizes {
  /** Gives a datastore another capacity, bytes, until the lab ends; less than what is in use leaves nothing free. */
  capacity(datastore: string, bytes: number): Promise<void>
}

export type LabControl = LabDisks & LabFaults & LabFacts & LabSizes

export type LabState = {
  readonly datastores: readonly {
    readonly name: string
    readonly type: string
    readonly directory: string
    readonly capacityBytes: number
    readonly usedBytes: number
  }[]
  /** VMs that were changed since the lab was made, or all of a small scenario. */
  readonly vms: readonly LabVmState[]
  readonly vmCount: number
  readonly tasks: readonly {
    readonly key: string
    readonly name: string
    readonly entity: string
    readonly state: string
    readonly progress: number
  }[]
  readonly leases: readonly { readonly id: string; readonly vm: string; readonly kind: 'export' | 'import'; readonly state: string }[]
  readonly sessions: readonly { readonly endpoint: string; readonly user: string; readonly calls: number }[]
  readonly locks: readonly { readonly path: string; readonly holder: string; readonly mode: 'exclusive' | 'shared' }[]
  readonly faults: readonly ActiveFault[]
  /** The NFC service: sessions past their ticket, all open connections, buffer memory in use (bytes). */
  readonly nfc: { readonly connections: number; readonly memoryBytes: number; readonly sessions: readonly NfcSessionState[] }
  /** The most there ever was at once since the lab started: `open snapshots on DATASTORE`, `NFC readers of DATASTORE`, `NFC sessions of HOST`, `… through vcenter`. */
  readonly peaks: Readonly<Record<string, number>>
}

export type LabVmState = {
  readonly name: string
  readonly moref: string
  readonly host: string
  readonly powerState: string
  readonly consolidationNeeded: boolean
  readonly changeTracking: boolean
  readonly snapshots: readonly { readonly moref: string; readonly name: string; readonly quiesced: boolean; readonly createdAt: string }[]
  readonly disks: readonly {
    readonly key: number
    readonly label: string
    readonly fileName: string
    readonly chain: readonly string[]
    /** Attached by another VM's file. */
    readonly attached: boolean
    /** `pvscsi`, `nvme`, … */
    readonly controller: string
  }[]
  /** Of a backup proxy: where its guest's sysfs and nodes are, and the disks it sees. */
  readonly guest?:
    | { readonly sysfs: string; readonly devices: string; readonly disks: readonly { readonly key: number; readonly name: string }[] }
    | undefined
  readonly disabledMethods: readonly { readonly method: string; readonly source: string }[]
  readonly frozen: boolean
  /** The longest the guest ever was frozen, ms. */
  readonly longestFreezeMs: number
  /** The guest stopped at a write error (a full datastore). */
  readonly stalled: boolean
}

export type Lab = AsyncDisposable & {
  readonly directory: string
  /** Both are there unless `kind` named one. */
  readonly endpoints: {
    readonly vcenter: LabEndpoint
    readonly esxi: LabEndpoint
    /** The hosts' NFC service (TCP 902 of real ones); tickets name it. */
    readonly nfc: { readonly host: string; readonly port: number; readonly sha1: string }
    /** Of the hosts whose scenario says `ssh`. */
    readonly ssh: readonly LabSsh[]
  }
  /** Full rights on both endpoints. */
  readonly user: string
  readonly passwordFile: string
  /** Private key that opens the hosts' shells. */
  readonly sshKeyFile: string
  /** May look, but has no privilege to change anything; same password file form. */
  readonly restricted: { readonly user: string; readonly passwordFile: string }
  /** Directory of each datastore by name. */
  readonly datastores: Readonly<Record<string, string>>
  readonly control: LabControl
}
