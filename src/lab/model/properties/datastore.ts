import { type LabObject, labRef, type LabValue } from '../../wire/index.ts'
import type { Endpoint } from '../endpoint.ts'
import type { DatastoreEntity } from '../entity.ts'
import { datastoresUsedBy } from './vm.ts'

/** Properties of a Datastore beyond those of every entity. */
export function datastoreProperty(endpoint: Endpoint, store: DatastoreEntity, name: string): LabValue {
  const { view, model } = endpoint
  switch (name) {
    case 'summary':
      return {
        $type: 'DatastoreSummary',
        datastore: view.ref(store),
        name: store.name,
        url: volumeUrl(store),
        capacity: model.files.store(store.name).capacityBytes,
        freeSpace: Math.max(0, model.files.store(store.name).free()),
        uncommitted: 0,
        accessible: true,
        multipleHostAccess: store.hosts.length > 1,
        type: store.type === 'NFS' ? 'NFS' : 'VMFS',
        maintenanceMode: 'normal',
      }
    case 'info': {
      const free = Math.max(0, model.files.store(store.name).free())
      const common = {
        name: store.name,
        url: volumeUrl(store),
        freeSpace: free,
        maxFileSize: 2 ** 46,
        maxVirtualDiskCapacity: 62 * 2 ** 40,
        maxMemoryFileSize: 2 ** 44,
        timestamp: model.world.now(),
      }
      return store.type === 'NFS'
        ? { $type: 'NasDatastoreInfo', ...common, nas: nasVolume(store) }
        : {
            $type: 'VmfsDatastoreInfo',
            ...common,
            maxPhysicalRDMFileSize: 2 ** 46,
            maxVirtualRDMFileSize: 62 * 2 ** 40,
            vmfs: vmfsVolume(endpoint, store),
          }
    }
    case 'host':
      return store.hosts.flatMap((id): LabObject[] => {
        const key = view.refOf(id)
        return key === undefined ? [] : [{ $type: 'DatastoreHostMount', key, mountInfo: mountInfo(store) }]
      })
    case 'vm':
      return view
        .vms()
        .filter((vm) => datastoresUsedBy(view, vm).includes(store.id))
        .map((vm) => view.vmRef(vm))
    case 'browser':
      return labRef('HostDatastoreBrowser', `datastoreBrowser-${view.ref(store).value}`)
    case 'capability':
      return {
        $type: 'DatastoreCapability',
        directoryHierarchySupported: true,
        rawDiskMappingsSupported: store.type !== 'NFS',
        perFileThinProvisioningSupported: true,
        storageIORMSupported: false,
        nativeSnapshotSupported: false,
        topLevelDirectoryCreateSupported: true,
        seSparseSupported: store.type === 'VMFS6',
      }
    default:
      return undefined
  }
}

export const volumeUrl = (store: DatastoreEntity): string => `ds:///vmfs/volumes/${store.uuid}/`

export const mountInfo = (store: DatastoreEntity): LabObject => ({
  $type: 'HostMountInfo',
  path: `/vmfs/volumes/${store.uuid}`,
  accessMode: 'readWrite',
  mounted: true,
  accessible: true,
})

export const nasVolume = (store: DatastoreEntity): LabObject => ({
  $type: 'HostNasVolume',
  type: 'NFS',
  name: store.name,
  capacity: store.capacity,
  remoteHost: '127.0.0.1',
  remotePath: store.directory,
  remoteHostNames: ['127.0.0.1'],
  securityType: 'AUTH_SYS',
  protocolEndpoint: false,
})

export const canonicalName = (endpoint: Endpoint, store: DatastoreEntity): string =>
  `naa.600${endpoint.model.world.seeded.hex(29, 'lun', store.name)}`

export const vmfsVolume = (endpoint: Endpoint, store: DatastoreEntity): LabObject => ({
  $type: 'HostVmfsVolume',
  type: 'VMFS',
  name: store.name,
  capacity: store.capacity,
  blockSizeMb: 1,
  blockSize: 1024,
  maxBlocks: 2 ** 26,
  majorVersion: store.type === 'VMFS6' ? 6 : 5,
  version: store.type === 'VMFS6' ? '6.82' : '5.81',
  uuid: store.uuid,
  extent: [{ $type: 'HostScsiDiskPartition', diskName: canonicalName(endpoint, store), partition: 1 }],
  vmfsUpgradable: false,
  ssd: true,
  local: store.hosts.length === 1,
})
