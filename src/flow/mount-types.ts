import type {
  BlockSource,
  Clock,
  ConsistencyLevel,
  FileReader,
  JobId,
  Log,
  PointId,
  QuiescePolicy,
  TransportName,
  VmRef,
  WindowsQuiesce,
} from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { ProcessIdentity } from '../journal/index.ts'
import type { PointStore } from '../provider/index.ts'
import type { SpaceWatch } from '../snapshot/index.ts'
import type { BackupDeps } from './backup-types.ts'
import type { FreezeDeps } from './frozen-vm.ts'
import type { ScriptsSaid } from './guest-scripts.ts'
import type { LeaseEnd } from './hold-lease.ts'

/** `disk`: each disk as an NBD export and a raw file; `file`: its file systems, mounted; `export`: the VM as files, in VMware's formats. */
export type MountType = 'disk' | 'file' | 'export'

/** What both kinds of source need. */
export type MountDeps = {
  readonly clock: Clock
  readonly log: Log
  readonly isAlive: (process: ProcessIdentity) => Promise<boolean>
  /** Whether a process has a file below this directory open. */
  readonly isOpen: (directory: string) => Promise<boolean>
}

/** A fresh snapshot of a VM. */
export type VmToMount = {
  readonly kind: 'vm'
  readonly vm: VmRef
  readonly deps: FreezeDeps & Pick<BackupDeps, 'reopen'> & { readonly space: SpaceWatch }
  readonly quiesce: QuiescePolicy
  readonly freezeLimitMs: number
  readonly windowsQuiesce?: WindowsQuiesce | undefined
  /** As for a backup: false = none, `require` or `try` instead of their own policy. */
  readonly guestScripts?: boolean | 'require' | 'try' | undefined
  readonly excludeDisks: readonly string[]
  /** How long a VM that another job has is waited for, ms. */
  readonly waitMs: number
}

/** A restore point. */
export type PointToMount = {
  readonly kind: 'point'
  readonly point: PointId
  readonly store: PointStore
  readonly excludeDisks: readonly string[]
}

/** A virtual disk in a file of this machine. */
export type VmdkToMount = {
  readonly kind: 'vmdk'
  /** Its descriptor, or its only file. */
  readonly path: string
  /** Named like the file; of no vCenter. */
  readonly vm: VmRef
}

export type MountRequest = {
  readonly from: VmToMount | PointToMount | VmdkToMount
  /** Made when it is missing; must be empty otherwise. */
  readonly directory: string
  readonly types: readonly MountType[]
  readonly exportFormat: ExportFormat
  /** Who may read disks and exported files beside vcb's own user; undefined = nobody. Not the file systems: they keep the guest's owners. */
  readonly reader: FileReader | undefined
  /** From the beginning on, ms. */
  readonly maxHoldMs: number
  /** The same as a moment, for people. */
  readonly until: string
  readonly owner: ProcessIdentity | undefined
  readonly idleMs: number | undefined
  /** The command that waits until everything is there; when it has ended before, nobody will ever use it. */
  readonly caller: ProcessIdentity | undefined
}

/** A disk open for reading, wherever it comes from. */
export type SourceDisk = {
  readonly key: number
  readonly label: string
  readonly capacityBytes: number
  /** The datastore path of the VMDK, and those of its links, the base last. */
  readonly fileName: string
  readonly chain: readonly string[]
  readonly uuid?: string | undefined
  readonly thin: boolean
  readonly source: BlockSource
  readonly transport?: TransportName | undefined
}

/** What a lease gives, when everything is there. `vcb mount --json` prints it, and `.vcb/manifest.json` holds it. */
export type Mounted = {
  readonly lease: JobId
  readonly vm: VmRef
  /** The restore point it shows; absent for a snapshot. */
  readonly point?: PointId | undefined
  /** The moment the disks show. */
  readonly time: string
  readonly directory: string
  readonly types: readonly MountType[]
  readonly until: string
  readonly disks: readonly {
    readonly label: string
    readonly bytes: number
    readonly transport?: TransportName | undefined
    readonly nbdUri?: string | undefined
    /** As a raw file. */
    readonly file?: string | undefined
    /** Exported: its descriptor. */
    readonly exported?: string | undefined
  }[]
  /** File systems; paths inside the directory. */
  readonly volumes: readonly {
    readonly number: number
    readonly name: string
    readonly path: readonly string[]
    readonly type: string
    readonly label?: string | undefined
  }[]
  /** Exported files, inside the directory. */
  readonly files: readonly { readonly name: string; readonly size: number }[]
  /** What of the VM is not shown. */
  readonly notMounted: readonly { readonly what: string; readonly reason: string }[]
  readonly consistency: ConsistencyLevel
  readonly consistencyReason: string
  /** How the guest scripts ended; what they wrote is in `file`, inside the directory. Absent when none ran. */
  readonly guestScripts?: {
    readonly policy: ScriptsSaid['policy']
    readonly file: string
    readonly runs: readonly Pick<ScriptsSaid['runs'][number], 'script' | 'argument' | 'exitCode' | 'timedOut' | 'error' | 'ms'>[]
  }
  readonly warnings: readonly string[]
}

/** How one disk, or a volume of one, was read during a lease. */
export type DiskUse = {
  readonly kind: 'disk' | 'volume'
  readonly label: string
  readonly bytes: number
  readonly readBytes: number
  /** The highest byte that was read, plus one. */
  readonly readTo: number
  readonly readErrors: number
  /** The first one, for people. */
  readonly readError?: string | undefined
}

/** What a lease came to. */
export type MountResult = { readonly end: LeaseEnd; readonly disks: readonly DiskUse[] }
