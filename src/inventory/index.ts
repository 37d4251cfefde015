/**
 * Rank 2. A selection expression becomes VMs; a VM becomes a `VmConfig`; a `VmConfig` becomes the disks that can be protected and the
 * reasons for those that cannot.
 *
 * Expression: `web1` (exact name), `web*` (glob), `folder:/DC/vm/prod` (recursive), `tag:gold`, `uuid:…`, `moref:vm-57`, `ip:…`, `name:…`
 * (literal), `power:on|off|suspended`; comma and blank between terms mean union, a leading `!` excludes, `\` makes the next character literal.
 */
import type { Abortable, DiskRef, NotProtected, PowerState, VmConfig, VmRef } from '../core/index.ts'
import type { Vsphere } from '../vsphere/index.ts'

/**
 * The VMs the expressions name, in order of path, each once. NOT_FOUND when a positive term matches nothing; USAGE listing the paths when
 * a plain name is borne by several VMs and `bulk` is not set.
 */
export declare function selectVms(
  vsphere: Vsphere,
  expressions: readonly string[],
  options?: Abortable & { readonly bulk?: boolean | undefined },
): Promise<readonly VmRef[]>
/** One VM as of now. NOT_FOUND; UNAVAILABLE when the host cannot read its configuration. */
export declare function describeVm(vsphere: Vsphere, vm: VmRef, options?: Abortable): Promise<VmConfig>

export type VmRow = {
  readonly vm: VmRef
  readonly powerState: PowerState
  readonly isTemplate: boolean
  readonly disks: number
  /** Sum of the disks' capacities. */
  readonly capacityBytes: number
  readonly changeTracking: 'on' | 'off' | 'unsupported'
  readonly toolsRunning: boolean
  readonly snapshots: number
  readonly host: string
  readonly guestFullName: string
  /** Why this VM cannot be backed up now (inaccessible, orphaned, template); undefined when it can. */
  readonly problem: string | undefined
}
/** Rows for `vcb vms`, streamed; all VMs when no expression is given. */
export declare function listVms(vsphere: Vsphere, expressions?: readonly string[], options?: Abortable): AsyncIterable<VmRow>

export type Protection = { readonly disks: readonly DiskRef[]; readonly notProtected: readonly NotProtected[] }
/** Which disks a snapshot holds. `excludes`: `scsi0:1`, a device key, or a glob over the disk's datastore path or file name. Pure. */
export declare function protectionOf(config: VmConfig, excludes?: readonly string[]): Protection
