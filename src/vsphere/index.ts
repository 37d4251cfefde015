/**
 * Rank 1. Everything the agent says to a vCenter or an ESXi host over HTTPS: the vim25 SOAP calls, the session that carries them,
 * the property collector, tasks, files of a datastore and NFC leases.
 *
 * `connectVsphere` gives a `Vsphere`: one logged-in session, kept alive, logged in again once when the server has forgotten it. Every
 * other function takes that session as its first parameter and does one thing. Arguments are written with `data` and `typed` in
 * declaration order; answers are read through `VimNode`, which keeps the types the server sent. `docs/formats/vim25-wire.md` has the wire.
 *
 * Foreign errors end here: a fault becomes an `AgentError` whose cause is a `VimFault` (`faultOf`), a broken connection becomes UNAVAILABLE,
 * a certificate that is not the pinned one becomes AUTH before a byte of the request has left.
 */
export {
  DATASTORE_PATHS,
  type DatastorePath,
  formatDatastorePath,
  listDatastores,
  parseDatastore,
  parseDatastorePath,
} from './datastore.ts'
export { datastoreSpace, snapshotDirectory, type VmFile, vmFiles } from './datastore-space.ts'
export { type DatastoreFiles, type DatastoreFileStat, openDatastoreFiles } from './datastore-files.ts'
export { type DatastoreBrowser, datastoreBrowsers, type DatastoreEntry, type DatastoreFolder, searchDatastore } from './datastore-search.ts'
export { labelOfLeaseKey, parseDevices, parseDisks } from './device.ts'
export {
  createVirtualDisk,
  deleteDatastoreFile,
  deleteVirtualDisk,
  listDatastore,
  makeDirectory,
  type NewDisk,
} from './file-calls.ts'
export {
  deleteFileInGuest,
  type GuestLogin,
  type GuestProcess,
  listProcessesInGuest,
  readGuestFile,
  sizeOfGuestFile,
  startProgramInGuest,
  terminateProcessInGuest,
} from './guest-calls.ts'
export { type HostRef, listHosts } from './host.ts'
export {
  type Datacenter,
  datacenterOf,
  decodeName,
  encodeName,
  type InventoryTree,
  listDatacenters,
  loadInventoryTree,
} from './inventory-tree.ts'
export { listNetworks, type NetworkRef } from './network.ts'
export { askSha256, type ChecksumType, leaseManifest, type ManifestEntry } from './lease-manifest.ts'
export { beginExport, beginVmExport, endExport, type LeaseDevice, type NfcLease, openExport } from './nfc-lease.ts'
export { type NfcServiceTicket, ticketToRead, ticketToWrite } from './nfc-ticket.ts'
export { createImportSpec, type ImportItem, type ImportLease, type ImportTarget, importVm } from './ovf-import.ts'
export { isNotNow, passesByItself, type Patience, patiently } from './patience.ts'
export { findPlacement, type Placement, type PlacementWish } from './placement.ts'
export { BACKUP_PRIVILEGES, GUEST_PRIVILEGES, HOTADD_PRIVILEGES, missingPrivileges, RESTORE_PRIVILEGES } from './privileges.ts'
export { type ObjectProps, retrieveAll, retrieveMany, retrieveOne, type RetrieveSpec } from './property-collector.ts'
export { connectVsphere } from './session.ts'
export {
  type ChangedWindow,
  consolidateDisks,
  createSnapshot,
  type GuestQuiesce,
  takesQuiesceSpec,
  queryChangedDiskAreas,
  reconfigureVm,
  removeSnapshot,
  setChangeTracking,
  parseSnapshots,
  type SnapshotNode,
  snapshotTree,
} from './snapshot-calls.ts'
export { findTaggedVms } from './tagged-vms.ts'
export { cancelTasksOf, runTask, type TaskOptions, type TaskState, tasksOf, waitTask, waitTasksOf, vmMakingTaskRuns } from './task.ts'
export { customValues, disableMethods, enableMethods, logUserEvent, setCustomValue } from './traces.ts'
export { fetchThumbprint, parsePin, pinnedConnector, resolveTrust, type ShownCertificate, trustedSha1, type VsphereTrust } from './trust.ts'
export { anyValue, data, typed, VimData, type VimFields, type VimValue } from './vim-data.ts'
export { endpointName } from './endpoint-name.ts'
export { faultError } from './fault-error.ts'
export { faultOf, isFault, VimFault } from './vim-fault.ts'
export { VimNode } from './vim-node.ts'
export { createVm, destroyVm, powerOff, powerOn, registerVm, unregisterVm, type VmTarget } from './vm-calls.ts'
export {
  countSnapshots,
  parsePowerState,
  parseVmConfig,
  toolsRunning,
  VM_PATHS,
  vmMoRef,
  type VmSurroundings,
  withConfigInfo,
} from './vm-config.ts'
export { findVms, type VmSearch } from './vm-search.ts'
export { attachDisk, detachDisk, type DiskSlot, type ExtraEntry, type VmHardware, vmHardware } from './attach-calls.ts'
export { attachedTo } from './attached-disks.ts'
export type { CallOptions, SessionHttp, Vsphere, VsphereAbout, VsphereOptions } from './vsphere.ts'
