import type { VmRecord } from './record.ts'

/** Things of the inventory. Ids are those of the vCenter endpoint; a parent is named by id. VMs are in `VmRecord`s. */
export type FolderEntity = {
  readonly kind: 'folder'
  readonly id: string
  name: string
  parent: string | undefined
  readonly holds: FolderKind
}
/** What a folder is for: the root holds datacenters, each datacenter has one folder tree of each other kind. */
export type FolderKind = 'datacenter' | 'vm' | 'host' | 'datastore' | 'network'
export type DatacenterEntity = {
  readonly kind: 'datacenter'
  readonly id: string
  name: string
  readonly parent: string
  readonly standalone: boolean
  readonly folders: Readonly<Record<'vm' | 'host' | 'datastore' | 'network', string>>
}
export type ComputeEntity = {
  readonly kind: 'compute'
  readonly id: string
  readonly name: string
  readonly parent: string
  readonly cluster: boolean
  readonly pool: string
  readonly hosts: readonly string[]
}
export type PoolEntity = { readonly kind: 'pool'; readonly id: string; name: string; readonly parent: string; readonly compute: string }
export type HostEntity = {
  readonly kind: 'host'
  readonly id: string
  readonly name: string
  readonly parent: string
  readonly ip: string
  readonly ssh: boolean
  readonly licence: 'full' | 'free'
}
export type NetworkEntity = { readonly kind: 'network'; readonly id: string; readonly name: string; readonly parent: string }
export type DatastoreEntity = {
  readonly kind: 'datastore'
  readonly id: string
  readonly name: string
  readonly parent: string
  readonly type: 'VMFS6' | 'VMFS5' | 'NFS'
  /** Of the local file system. */
  readonly directory: string
  /** Bytes. */
  readonly capacity: number
  readonly hosts: readonly string[]
  readonly uuid: string
}
export type VmEntity = { readonly kind: 'vm'; readonly id: string; readonly record: VmRecord }
export type SnapshotEntity = { readonly kind: 'snapshot'; readonly id: string; readonly vm: string }

export type StaticEntity = FolderEntity | DatacenterEntity | ComputeEntity | PoolEntity | HostEntity | NetworkEntity | DatastoreEntity
export type Entity = StaticEntity | VmEntity | SnapshotEntity
