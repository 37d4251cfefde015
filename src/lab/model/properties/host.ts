import { aboutInfo, type LabObject, labRef, type LabValue } from '../../wire/index.ts'
import type { Endpoint } from '../endpoint.ts'
import type { HostEntity } from '../entity.ts'
import { canonicalName, mountInfo, nasVolume, vmfsVolume } from './datastore.ts'

/** Properties of a HostSystem beyond those of every entity. */
export function hostProperty(endpoint: Endpoint, host: HostEntity, name: string): LabValue {
  const { view, model } = endpoint
  const { world } = model
  const ref = view.ref(host)
  const stores = view.datastores().filter((store) => store.hosts.includes(host.id))
  switch (name) {
    case 'runtime':
      return {
        $type: 'HostRuntimeInfo',
        connectionState: 'connected',
        powerState: 'poweredOn',
        standbyMode: 'none',
        inMaintenanceMode: false,
        inQuarantineMode: false,
        bootTime: new Date('2026-01-01T00:00:00Z'),
        hostMaxVirtualDiskCapacity: 62 * 2 ** 40,
      }
    case 'summary': {
      const managed = world.datacenterOf(host.id)?.standalone !== true
      return {
        $type: 'HostListSummary',
        host: ref,
        hardware: {
          $type: 'HostHardwareSummary',
          vendor: 'vcb',
          model: 'lab',
          uuid: world.seeded.uuid('host', host.name),
          memorySize: 2 ** 35,
          cpuModel: 'lab',
          cpuMhz: 2000,
          numCpuPkgs: 1,
          numCpuCores: 4,
          numCpuThreads: 8,
          numNics: 1,
          numHBAs: 1,
        },
        runtime: hostProperty(endpoint, host, 'runtime'),
        config: {
          $type: 'HostConfigSummary',
          name: host.name,
          port: 902,
          sslThumbprint: undefined,
          product: aboutInfo('esxi', world.lab.esxiUuid),
          vmotionEnabled: true,
          faultToleranceEnabled: false,
        },
        quickStats: { $type: 'HostListSummaryQuickStats', overallCpuUsage: 100, overallMemoryUsage: 1024, uptime: 86_400 },
        overallStatus: 'green',
        rebootRequired: false,
        managementServerIp: view.kind === 'esxi' && managed ? '127.0.0.1' : undefined,
      }
    }
    case 'config':
      return {
        $type: 'HostConfigInfo',
        certificate: [...Buffer.from(model.nfcTickets.door?.certificate ?? '', 'latin1')],
        host: ref,
        product: aboutInfo('esxi', world.lab.esxiUuid),
        storageDevice: {
          $type: 'HostStorageDeviceInfo',
          hostBusAdapter: [],
          scsiLun: stores
            .filter((store) => store.type !== 'NFS')
            .map(
              (store): LabObject => ({
                $type: 'HostScsiDisk',
                deviceName: `/vmfs/devices/disks/${canonicalName(endpoint, store)}`,
                deviceType: 'disk',
                key: `key-vim.host.ScsiDisk-${canonicalName(endpoint, store)}`,
                uuid: `0200000000${canonicalName(endpoint, store).slice(4)}4c4142`,
                canonicalName: canonicalName(endpoint, store),
                displayName: `Lab disk (${canonicalName(endpoint, store)})`,
                lunType: 'disk',
                vendor: 'VCB     ',
                model: 'LAB             ',
                operationalState: ['ok'],
                capacity: { $type: 'HostDiskDimensionsLba', blockSize: 512, block: Math.floor(store.capacity / 512) },
                devicePath: `/vmfs/devices/disks/${canonicalName(endpoint, store)}`,
                ssd: true,
                localDisk: false,
              }),
            ),
          softwareInternetScsiEnabled: false,
        },
        fileSystemVolume: {
          $type: 'HostFileSystemVolumeInfo',
          volumeTypeList: ['VMFS', 'NFS', 'NFS41'],
          mountInfo: stores.map(
            (store): LabObject => ({
              $type: 'HostFileSystemMountInfo',
              mountInfo: mountInfo(store),
              volume: store.type === 'NFS' ? nasVolume(store) : vmfsVolume(endpoint, store),
              vStorageSupport: 'vStorageUnsupported',
            }),
          ),
        },
        virtualNicManagerInfo: {
          $type: 'HostVirtualNicManagerInfo',
          netConfig: [
            {
              $type: 'VirtualNicManagerNetConfig',
              nicType: 'management',
              multiSelectAllowed: true,
              candidateVnic: [
                {
                  $type: 'HostVirtualNic',
                  device: 'vmk0',
                  key: 'management.key-vim.host.VirtualNic-vmk0',
                  portgroup: 'Management Network',
                  spec: {
                    $type: 'HostVirtualNicSpec',
                    ip: { $type: 'HostIpConfig', dhcp: false, ipAddress: host.ip, subnetMask: '255.0.0.0' },
                    mac: world.seeded.mac('vmk0', host.name),
                    mtu: 1500,
                  },
                },
              ],
              selectedVnic: ['management.key-vim.host.VirtualNic-vmk0'],
            },
          ],
        },
      }
    case 'datastore':
      return stores.map((store) => view.ref(store))
    case 'network':
      return world
        .of('network')
        .filter((network) => view.shows(network) && world.datacenterOf(network.id)?.id === world.datacenterOf(host.id)?.id)
        .map((network) => view.ref(network))
    case 'vm':
      return view
        .vms()
        .filter((vm) => vm.host === host.id)
        .map((vm) => view.vmRef(vm))
    case 'datastoreBrowser':
      return labRef('HostDatastoreBrowser', `datastoreBrowser-${ref.value}`)
    case 'configManager':
      return {
        $type: 'HostConfigManager',
        storageSystem: labRef('HostStorageSystem', `storageSystem-${ref.value}`),
        datastoreSystem: labRef('HostDatastoreSystem', `datastoreSystem-${ref.value}`),
      }
    case 'hardware':
      return undefined
    default:
      return undefined
  }
}
