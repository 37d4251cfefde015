/**
 * Rank 1. Everything the agent says to a vCenter or an ESXi host over HTTPS: the vim25 SOAP calls, the session that carries them,
 * the property collector, tasks, files of a datastore and NFC leases.
 *
 * `connectVsphere` gives a `Vsphere`: one logged-in session, kept alive, logged in again once when the server has forgotten it. Every
 * other function takes that session as its first parameter and does one thing. Arguments are written with `data` and `typed` in
 * declaration order; answers are read through `VimNode`, which keeps the types the server sent.
 *
 * Foreign errors end here: a fault becomes an `AgentError` whose cause is a `VimFault` (`faultOf`), a broken connection becomes UNAVAILABLE,
 * a certificate that is not the pinned one becomes AUTH before a byte of the request has left.
 */
import type { Abortable, Clock, DatastoreRef, DeviceRef, DiskRef, Log, MoRef, Range, Secret, VmConfig, VmRef } from '../core/index.ts'

// ---- values on the wire

/** One element of an answer. `type` is its xsi:type (`VirtualDisk`, `xsd:long`); a reference is read with `ref`. */
export declare class VimNode {
  readonly name: string
  readonly type: string | undefined
  readonly text: string
  readonly children: readonly VimNode[]
  /** First child with this name; a dotted path goes deeper. */
  get(path: string): VimNode | undefined
  /** Every child with this name (an array property). */
  all(name: string): readonly VimNode[]
  /** Items of an ArrayOf… value: every child whatever its name. */
  items(): readonly VimNode[]
  string(path: string): string | undefined
  number(path: string): number | undefined
  boolean(path: string): boolean | undefined
  ref(path: string): MoRef | undefined
  /** This element itself as a reference; undefined when it is none. */
  asRef(): MoRef | undefined
}
export type VimValue = string | number | bigint | boolean | Date | MoRef | VimData | VimNode | undefined | readonly VimValue[]
/** Fields in declaration order, base class first. Undefined fields and empty arrays are left out. */
export type VimFields = { readonly [field: string]: VimValue }
/** A data object to send. Made by `data` and `typed`. */
export declare class VimData {
  readonly fields: VimFields
  readonly xsiType: string | undefined
}
/** A data object whose declared type is its own. */
export declare function data(fields: VimFields): VimData
/** A data object with xsi:type, needed wherever the declared type is abstract or a base class. */
export declare function typed(xsiType: string, fields: VimFields): VimData
/** A scalar in an anyType field: `xsd:string`, `xsd:boolean`, `xsd:int`, `xsd:long`. */
export declare function anyValue(xsiType: string, value: string | number | boolean | bigint): VimData

// ---- session

/** A pin (SHA-1 or SHA-256, hex, colons optional) decides alone; else the CA file; else the system's CAs. Never a blind accept. */
export type VsphereTrust = { readonly thumbprint?: string | undefined; readonly caFile?: string | undefined }
export type VsphereOptions = {
  /** `https://host[:port][/sdk]`, or `host[:port]`. */
  readonly url: string
  readonly user: string
  readonly password: Secret
  readonly trust: VsphereTrust
  readonly clock: Clock
  readonly log: Log
  /** Shows up in the server's logs; one per job. */
  readonly operationId?: string | undefined
  /** Longest wait for the answer of one call, ms; 120 000 when absent. */
  readonly timeoutMs?: number | undefined
}
export type VsphereAbout = {
  readonly fullName: string
  readonly version: string
  readonly apiVersion: string
  readonly build: string
  readonly kind: 'vcenter' | 'esxi'
  /** On a standalone ESXi, which has none, the host's hardware uuid. */
  readonly instanceUuid: string
}
export type CallOptions = Abortable & {
  /** What the call is about, for messages: a VM's name. */
  readonly subject?: string | undefined
  readonly timeoutMs?: number | undefined
  /** `urn:internalvim25` for the few calls that live there. */
  readonly namespace?: string | undefined
}
export interface Vsphere extends AsyncDisposable {
  /** `host:port`. */
  readonly host: string
  readonly user: string
  readonly about: VsphereAbout
  readonly clock: Clock
  readonly log: Log
  /** A managed object of the service content: `rootFolder`, `searchIndex`, … UNAVAILABLE naming it when this server has none. */
  service(name: string): MoRef
  hasService(name: string): boolean
  /** Counts logins; session-bound objects (views, filters, collectors, leases) made under another number are gone. */
  readonly login: number
  /**
   * One method. The answer's `returnval` elements (none = null). Reads are sent again on a broken connection, changing calls never;
   * after NotAuthenticated the session logs in once more and repeats the call, which the server had refused.
   */
  call(method: string, self: MoRef, args?: VimFields, options?: CallOptions): Promise<readonly VimNode[]>
}
/** Connects, verifies the certificate, logs in. Disposal logs out. Errors: AUTH, UNAVAILABLE, CONFIG (bad url, unreadable CA file). */
export declare function connectVsphere(options: VsphereOptions, abort?: Abortable): Promise<Vsphere>
export type ShownCertificate = {
  readonly sha1: string
  readonly sha256: string
  readonly subject: string
  readonly issuer: string
  readonly validTo: string
  /** Trusted by the system's CAs for this host name. */
  readonly trusted: boolean
}
/** The certificate a server shows, by a TLS handshake that sends nothing else. `url` as in `VsphereOptions`. UNAVAILABLE. */
export declare function fetchThumbprint(url: string, options?: Abortable): Promise<ShownCertificate>

// ---- faults

/** The fault behind an AgentError. `faultName` is VMware's type name: `FileLocked`, `TaskInProgress`, `NoPermission`. */
export declare class VimFault extends Error {
  readonly faultName: string
  readonly detail: VimNode | undefined
  /** Keys of faultMessage, e.g. `vim.hostd.vmsvc.cbt.noTrack`. */
  readonly messageKeys: readonly string[]
}
/** The fault that caused `error`, at whatever depth; undefined when none did. */
export declare function faultOf(error: unknown): VimFault | undefined
/** True when a fault of one of these names caused `error`. */
export declare function isFault(error: unknown, ...names: readonly string[]): boolean

// ---- property collector

export type ObjectProps = {
  readonly obj: MoRef
  /** Values by path; an unset property is absent from both. */
  readonly props: ReadonlyMap<string, VimNode>
  /** Properties that may not be read, with the fault's name. */
  readonly missing: ReadonlyMap<string, string>
}
export type RetrieveSpec = {
  /** Matches subtypes. */
  readonly type: string
  readonly paths: readonly string[]
  /** Searched with everything below it; the root folder when absent. */
  readonly container?: MoRef | undefined
  /** Objects a page; 250 when absent. */
  readonly pageSize?: number | undefined
}
/** Every object of a type, page by page; holds one page at a time. */
export declare function retrieveAll(vsphere: Vsphere, spec: RetrieveSpec, options?: Abortable): AsyncIterable<ObjectProps>
/** One object. NOT_FOUND when it is gone. */
export declare function retrieveOne(vsphere: Vsphere, obj: MoRef, paths: readonly string[], options?: CallOptions): Promise<ObjectProps>
/** Several objects of one type in one call; those that are gone are left out. */
export declare function retrieveMany(
  vsphere: Vsphere,
  objects: readonly MoRef[],
  paths: readonly string[],
  options?: CallOptions,
): Promise<readonly ObjectProps[]>

// ---- tasks

export type TaskState = {
  readonly task: MoRef
  /** `VirtualMachine.createSnapshot` */
  readonly descriptionId: string
  readonly state: 'queued' | 'running' | 'success' | 'error'
  readonly progress: number | undefined
}
export type TaskOptions = CallOptions & {
  /** Called once, as soon as the server has named the task: the place to write it down. */
  readonly onStarted?: ((task: MoRef) => void | Promise<void>) | undefined
  /** Per cent. */
  readonly onProgress?: ((percent: number) => void) | undefined
}
/** Starts a `…_Task` method and waits for its end. The result element, when the task has one. An abort cancels the task where that is possible. */
export declare function runTask(
  vsphere: Vsphere,
  method: string,
  self: MoRef,
  args?: VimFields,
  options?: TaskOptions,
): Promise<VimNode | undefined>
/** Waits for a task; survives cut connections and a new login. NOT_FOUND when the server no longer knows it. */
export declare function waitTask(vsphere: Vsphere, task: MoRef, options?: TaskOptions): Promise<VimNode | undefined>
/** Recent tasks of a VM, running and finished. */
export declare function tasksOf(vsphere: Vsphere, vm: MoRef, options?: Abortable): Promise<readonly TaskState[]>
/** Waits until no task runs on the VM any more, whatever became of them. */
export declare function waitTasksOf(vsphere: Vsphere, vm: MoRef, options?: Abortable): Promise<void>

// ---- inventory objects

export declare function vmMoRef(vm: VmRef): MoRef
export type Datacenter = { readonly moref: MoRef; readonly name: string; readonly path: string }
/** The datacenter that holds an entity (VM, datastore, host, folder). */
export declare function datacenterOf(vsphere: Vsphere, entity: MoRef, options?: Abortable): Promise<Datacenter>
export declare function listDatacenters(vsphere: Vsphere, options?: Abortable): Promise<readonly Datacenter[]>

/** Containers of the inventory by reference, read once; turns `parent` references into paths. */
export interface InventoryTree {
  /** `/DC/vm/folder`; undefined for a reference outside the tree. */
  pathOf(container: MoRef | undefined): string | undefined
  /** `/DC/vm/folder/NAME` with `/`, `\` and `%` of the name written %2f, %5c, %25. */
  join(parent: MoRef | undefined, name: string): string
  datacenterOf(container: MoRef | undefined): Datacenter | undefined
  /** The container at an inventory path. */
  at(path: string): MoRef | undefined
}
export declare function loadInventoryTree(vsphere: Vsphere, options?: Abortable): Promise<InventoryTree>

/** References of the VMs a search names; empty when none. */
export type VmSearch =
  | { readonly by: 'uuid'; readonly uuid: string; readonly instance: boolean }
  | { readonly by: 'ip'; readonly ip: string }
  | { readonly by: 'dns'; readonly name: string }
  | { readonly by: 'path'; readonly path: string }
export declare function findVms(vsphere: Vsphere, search: VmSearch, options?: Abortable): Promise<readonly MoRef[]>
/** VMs that carry a tag, by the tag's name. vCenter only (CONFIG on ESXi); NOT_FOUND when there is no such tag. */
export declare function findTaggedVms(vsphere: Vsphere, tag: string, options?: Abortable): Promise<readonly MoRef[]>

// ---- VM configuration

/** What `parseVmConfig` needs. Read them with `retrieveOne`/`retrieveMany`/`retrieveAll`. */
export declare const VM_PATHS: readonly string[]
/** Facts outside the VM's own properties. */
export type VmSurroundings = {
  readonly vcenterUuid: string
  readonly path: string
  readonly hostName: string
  readonly datastores: readonly DatastoreRef[]
}
/** A VM's properties as a VmConfig; UNAVAILABLE with the reason when `config` is unset (inaccessible, orphaned, being created). */
export declare function parseVmConfig(vm: ObjectProps, around: VmSurroundings): VmConfig
/** The same VM with what a VirtualMachineConfigInfo (a snapshot's `config`) says: hardware, disks with their frozen files, extraConfig. */
export declare function withConfigInfo(base: VmConfig, config: VimNode): VmConfig
export declare function parseDisks(devices: readonly VimNode[]): readonly DiskRef[]
export declare function parseDevices(devices: readonly VimNode[]): readonly DeviceRef[]
export declare const DATASTORE_PATHS: readonly string[]
export declare function parseDatastore(props: ObjectProps): DatastoreRef

// ---- snapshots, changed areas, reconfigure (thin; the rules are in snapshot/)

/** What CreateSnapshot asks the guest for. */
export type GuestQuiesce = {
  /** 5..240 minutes; the server's own limit when absent. */
  readonly timeoutMinutes?: number | undefined
}
export type SnapshotNode = {
  readonly snapshot: MoRef
  readonly name: string
  readonly description: string
  readonly createTime: string
  readonly quiesced: boolean
  readonly children: readonly SnapshotNode[]
}
/** CreateSnapshotEx_Task where the server has it (6.5), else CreateSnapshot_Task; never with memory. */
export declare function createSnapshot(
  vsphere: Vsphere,
  vm: MoRef,
  spec: { readonly name: string; readonly description: string; readonly quiesce?: GuestQuiesce | undefined },
  options?: TaskOptions,
): Promise<MoRef>
/** RemoveSnapshot_Task with removeChildren=false, consolidate=true. */
export declare function removeSnapshot(vsphere: Vsphere, snapshot: MoRef, options?: TaskOptions): Promise<void>
export declare function snapshotTree(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<readonly SnapshotNode[]>
export declare function consolidateDisks(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void>
export type ChangedWindow = { readonly startOffset: number; readonly length: number; readonly areas: readonly Range[] }
/** One answer of QueryChangedDiskAreas as the server gave it; nothing is checked here. Bytes. */
export declare function queryChangedDiskAreas(
  vsphere: Vsphere,
  vm: MoRef,
  query: { readonly snapshot?: MoRef | undefined; readonly deviceKey: number; readonly startOffset: number; readonly changeId: string },
  options?: CallOptions,
): Promise<ChangedWindow>
export declare function reconfigureVm(vsphere: Vsphere, vm: MoRef, spec: VimData, options?: TaskOptions): Promise<void>

// ---- making, registering and starting VMs

export declare function createVm(
  vsphere: Vsphere,
  target: { readonly folder: MoRef; readonly pool: MoRef; readonly host?: MoRef | undefined },
  spec: VimData,
  options?: TaskOptions,
): Promise<MoRef>
/** `path` is `[ds] dir/x.vmx`. CONFLICT when it is registered already. */
export declare function registerVm(
  vsphere: Vsphere,
  target: { readonly folder: MoRef; readonly pool: MoRef; readonly host?: MoRef | undefined },
  path: string,
  name: string | undefined,
  options?: TaskOptions,
): Promise<MoRef>
export declare function unregisterVm(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<void>
/** Unregisters and deletes the VM's files. */
export declare function destroyVm(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void>
/** In the wanted state already = success. */
export declare function powerOn(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void>
export declare function powerOff(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void>
export type NewDisk = {
  readonly diskType: 'thin' | 'preallocated' | 'eagerZeroedThick'
  readonly adapterType: 'lsiLogic' | 'busLogic' | 'ide'
  readonly capacityBytes: number
}

// ---- files of a datastore

export type DatastorePath = { readonly datastore: string; readonly path: string }
/** Splits `[ds] dir/x.vmdk`; USAGE when it is none. */
export declare function parseDatastorePath(text: string): DatastorePath
export declare function formatDatastorePath(path: DatastorePath): string
export type DatastoreFileStat = { readonly size: number; readonly ranges: boolean }
/** `/folder` of one datacenter. Paths are `[ds] dir/file`. */
export interface DatastoreFiles {
  /** Size by HEAD; `ranges` is proven by asking for one byte (206). NOT_FOUND; CONFLICT (retry later) when the host holds the file locked. */
  stat(path: string, options?: Abortable): Promise<DatastoreFileStat>
  /** Fills `into` from `offset`, or throws. UNAVAILABLE on a short or unranged answer. */
  readRange(path: string, offset: number, into: Uint8Array, options?: Abortable): Promise<void>
  /** The whole file in chunks, back-pressured. Throws when fewer bytes come than announced. */
  download(path: string, options?: Abortable): AsyncIterable<Uint8Array>
  /** A small file (VMX, NVRAM, descriptor) whole; INTEGRITY when it is larger than `maxBytes`. */
  readSmall(path: string, maxBytes: number, options?: Abortable): Promise<Uint8Array>
  /** Writes a file whole from exactly `size` bytes. The directory must exist. CAPACITY, CONFLICT, NOT_FOUND. */
  upload(path: string, body: AsyncIterable<Uint8Array>, size: number, options?: Abortable): Promise<void>
  /** HTTP DELETE; NOT_FOUND. */
  remove(path: string, options?: Abortable): Promise<void>
}
export declare function openDatastoreFiles(vsphere: Vsphere, datacenter: Datacenter): DatastoreFiles
export type DatastoreEntry = {
  readonly path: string
  readonly size: number | undefined
  readonly modified: string | undefined
  readonly directory: boolean
}
/** Direct children of `[ds] dir`. NOT_FOUND. */
export declare function listDatastore(
  vsphere: Vsphere,
  datastore: MoRef,
  directory: string,
  options?: CallOptions,
): Promise<readonly DatastoreEntry[]>
/** MakeDirectory with parents; one that exists is fine when `existing` is allowed, else CONFLICT. */
export declare function makeDirectory(
  vsphere: Vsphere,
  datacenter: MoRef,
  path: string,
  options?: CallOptions & { readonly existing?: boolean },
): Promise<void>
/** DeleteDatastoreFile_Task: a file or a whole directory. NOT_FOUND. */
export declare function deleteDatastoreFile(vsphere: Vsphere, datacenter: MoRef, path: string, options?: TaskOptions): Promise<void>
export declare function createVirtualDisk(
  vsphere: Vsphere,
  datacenter: MoRef,
  path: string,
  disk: NewDisk,
  options?: TaskOptions,
): Promise<void>
/** Deletes descriptor and extents. NOT_FOUND. */
export declare function deleteVirtualDisk(vsphere: Vsphere, datacenter: MoRef, path: string, options?: TaskOptions): Promise<void>

// ---- placement of a restored VM

export type HostRef = {
  readonly moref: MoRef
  readonly name: string
  readonly connected: boolean
  readonly maintenance: boolean
  readonly compute: MoRef
}
export type NetworkRef = {
  readonly moref: MoRef
  readonly name: string
  readonly kind: 'standard' | 'distributed' | 'opaque'
  /** Of a distributed port group: what a network card's backing needs. */
  readonly portgroupKey?: string | undefined
  readonly switchUuid?: string | undefined
}
/** Names or inventory paths; what is left out is chosen when only one choice fits, or any fits equally well. */
export type PlacementWish = {
  readonly datacenter?: string | undefined
  readonly folder?: string | undefined
  readonly host?: string | undefined
  readonly cluster?: string | undefined
  readonly resourcePool?: string | undefined
  readonly datastore?: string | undefined
}
export type Placement = {
  readonly datacenter: Datacenter
  readonly folder: MoRef
  readonly pool: MoRef
  readonly host: HostRef | undefined
  readonly datastore: DatastoreRef
}
/** NOT_FOUND naming the choices, USAGE when several fit, CAPACITY when `neededBytes` do not fit the datastore. */
export declare function findPlacement(
  vsphere: Vsphere,
  wish: PlacementWish,
  options?: Abortable & { readonly neededBytes?: number | undefined },
): Promise<Placement>
export declare function listDatastores(vsphere: Vsphere, container?: MoRef, options?: Abortable): Promise<readonly DatastoreRef[]>
export declare function listHosts(vsphere: Vsphere, container?: MoRef, options?: Abortable): Promise<readonly HostRef[]>
export declare function listNetworks(vsphere: Vsphere, container?: MoRef, options?: Abortable): Promise<readonly NetworkRef[]>

// ---- NFC leases

export type LeaseDevice = {
  readonly key: string
  readonly importKey: string
  readonly url: string
  readonly thumbprint: string | undefined
  readonly disk: boolean
  readonly targetId: string | undefined
  readonly fileSize: number | undefined
}
/** A lease that is ready, kept alive until completed or aborted. Disposal without `complete` aborts it. */
export interface NfcLease extends AsyncDisposable {
  readonly moref: MoRef
  readonly devices: readonly LeaseDevice[]
  readonly totalBytes: number
  /** Shown in vCenter's task; per cent. */
  progress(percent: number): void
  /** A disk as a stream-optimized VMDK of unknown length. */
  download(device: LeaseDevice, options?: Abortable): AsyncIterable<Uint8Array>
  /** POST of a stream-optimized VMDK; `size` when it is known. */
  upload(device: LeaseDevice, body: AsyncIterable<Uint8Array>, size: number | undefined, options?: Abortable): Promise<void>
  complete(options?: Abortable): Promise<void>
}
/** ExportSnapshot (VM may run). */
export declare function exportSnapshot(vsphere: Vsphere, snapshot: MoRef, options?: CallOptions): Promise<NfcLease>
/** ExportVm (VM must be off). */
export declare function exportVm(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<NfcLease>
export type ImportItem = { readonly deviceId: string; readonly path: string; readonly create: boolean; readonly size: number | undefined }
/** CreateImportSpec from an OVF descriptor; errors of the answer become one CONFIG error. */
export declare function createImportSpec(
  vsphere: Vsphere,
  ovf: string,
  target: {
    readonly pool: MoRef
    readonly datastore: MoRef
    readonly host?: MoRef | undefined
    readonly name: string
    readonly networks: readonly { readonly name: string; readonly network: MoRef }[]
    readonly diskProvisioning?: 'thin' | 'thick' | 'eagerZeroedThick' | undefined
  },
  options?: CallOptions,
): Promise<{ readonly spec: VimNode; readonly items: readonly ImportItem[]; readonly warnings: readonly string[] }>
/** ImportVApp. `lease.entity` is the VM being made. */
export declare function importVm(
  vsphere: Vsphere,
  target: { readonly pool: MoRef; readonly folder: MoRef; readonly host?: MoRef | undefined },
  spec: VimNode | VimData,
  options?: CallOptions,
): Promise<NfcLease & { readonly entity: MoRef }>

// ---- traces, privileges, migration lock

export declare function logUserEvent(vsphere: Vsphere, entity: MoRef, message: string, options?: CallOptions): Promise<void>
/** vCenter only; makes the custom attribute when it does not exist. */
export declare function setCustomValue(vsphere: Vsphere, entity: MoRef, name: string, value: string, options?: CallOptions): Promise<void>
export declare function customValues(vsphere: Vsphere, entity: MoRef, options?: CallOptions): Promise<ReadonlyMap<string, string>>
/** Privilege ids of `wanted` that the user lacks on `entity`; undefined where the server cannot tell (ESXi). */
export declare function missingPrivileges(
  vsphere: Vsphere,
  entity: MoRef,
  wanted: readonly string[],
  options?: CallOptions,
): Promise<readonly string[] | undefined>
export declare const BACKUP_PRIVILEGES: readonly string[]
export declare const RESTORE_PRIVILEGES: readonly string[]
/** Blocks methods (RelocateVM_Task) on VMs until enabled again with the same source. vCenter only. */
export declare function disableMethods(
  vsphere: Vsphere,
  entities: readonly MoRef[],
  methods: readonly string[],
  source: string,
  options?: CallOptions,
): Promise<void>
export declare function enableMethods(
  vsphere: Vsphere,
  entities: readonly MoRef[],
  methods: readonly string[],
  source: string,
  options?: CallOptions,
): Promise<void>
