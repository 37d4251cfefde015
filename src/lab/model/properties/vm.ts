import { basename } from 'node:path'
import { arrayOf, type LabObject, labRef, type LabValue } from '../../wire/index.ts'
import { baseName, directoryOf, within } from '../datastore-path.ts'
import type { Files } from '../files.ts'
import { type ConfigRecord, diskLabel, disksOf, type SnapshotRecord, type VmRecord } from '../record.ts'
import type { View } from '../view.ts'
import { escapeName } from '../wire-name.ts'
import { deviceList } from './device.ts'

const GUEST_NAMES: Readonly<Record<string, string>> = {
  debian12_64Guest: 'Debian GNU/Linux 12 (64-bit)',
  rhel9_64Guest: 'Red Hat Enterprise Linux 9 (64-bit)',
  ubuntu64Guest: 'Ubuntu Linux (64-bit)',
  windows2019srv_64Guest: 'Microsoft Windows Server 2019 (64-bit)',
  otherLinux64Guest: 'Other Linux (64-bit)',
}
const guestName = (id: string): string => GUEST_NAMES[id] ?? id
const windows = (config: ConfigRecord): boolean => config.guestId.startsWith('windows')

/** Top-level properties of a VirtualMachine. `files` answers sizes, read only when `layoutEx`, `storage` or `summary` are asked for. */
export function vmProperty(view: View, files: Files, vm: VmRecord, name: string): LabValue {
  switch (name) {
    case 'name':
      return escapeName(vm.config.name)
    case 'parent':
      return view.refOf(view.folderOf(vm))
    case 'config':
      return configInfo(view, vm, vm.config, undefined)
    case 'capability':
      return capability(vm)
    case 'runtime':
      return runtime(view, vm)
    case 'guest':
      return guest(vm)
    case 'summary':
      return summary(view, files, vm)
    case 'snapshot':
      return snapshotInfo(view, vm)
    case 'rootSnapshot':
      return vm.snapshots.filter((snapshot) => snapshot.parent === undefined).map((snapshot) => view.snapshotRef(snapshot, vm))
    case 'layoutEx':
      return layout(view, files, vm)
    case 'storage':
      return storage(view, files, vm)
    case 'datastore':
      return datastoresUsedBy(view, vm)
        .map((store) => view.refOf(store))
        .filter((ref) => ref !== undefined)
    case 'network':
      return networksOf(view, vm)
    case 'resourcePool':
      return vm.pool === undefined ? undefined : view.kind === 'esxi' ? labRef('ResourcePool', 'ha-root-pool') : view.refOf(vm.pool)
    case 'environmentBrowser':
      return labRef('EnvironmentBrowser', `envbrowser-${view.vmRef(vm).value}`)
    case 'customValue':
    case 'value':
      return view.kind === 'esxi' ? [] : customValues(view, vm)
    case 'availableField':
      return view.kind === 'esxi' ? [] : customFieldDefs(view)
    case 'disabledMethod':
      return [...powerDisabled(vm), ...vm.disabledMethods.map((entry) => entry.method)]
    case 'recentTask':
      return view.tasks?.recent(view.vmRef(vm)) ?? []
    case 'guestHeartbeatStatus':
      return vm.power === 'poweredOn' && vm.tools === 'running' ? 'green' : 'gray'
    case 'overallStatus':
    case 'configStatus':
      return 'green'
    case 'alarmActionsEnabled':
      return true
    case 'configIssue':
    case 'triggeredAlarmState':
    case 'declaredAlarmState':
    case 'permission':
      return []
    case 'effectiveRole':
      return [-1]
    case 'tag':
      return view.kind === 'esxi' ? [] : vm.tags.map((key) => ({ $type: 'Tag', key }))
    case 'resourceConfig':
      return {
        $type: 'ResourceConfigSpec',
        entity: view.vmRef(vm),
        cpuAllocation: allocation(1000),
        memoryAllocation: allocation(10 * vm.config.memoryMb),
      }
    default:
      return undefined
  }
}

const allocation = (shares: number): LabObject => ({
  $type: 'ResourceAllocationInfo',
  reservation: 0,
  expandableReservation: false,
  limit: -1,
  shares: { $type: 'SharesInfo', shares, level: 'normal' },
})

function powerDisabled(vm: VmRecord): string[] {
  if (vm.template) return ['PowerOnVM_Task', 'CreateSnapshot_Task', 'CreateSnapshotEx_Task']
  return vm.power === 'poweredOn' ? ['PowerOnVM_Task', 'Destroy_Task', 'UnregisterVM'] : ['PowerOffVM_Task', 'SuspendVM_Task']
}

/** VirtualMachineConfigInfo of the VM or, with `snapshot`, of its snapshot. */
export function configInfo(view: View, vm: VmRecord, config: ConfigRecord, snapshot: SnapshotRecord | undefined): LabObject {
  const directory = directoryOf(vm.path)
  const datacenter = view.world.datacenterOf(vm.id)?.id
  const stores = datastoresOf(view, vm)
    .map((id) => view.world.entity(id))
    .filter((entity) => entity?.kind === 'datastore')
  return {
    $type: 'VirtualMachineConfigInfo',
    changeVersion: `${config.modified}/${config.changeVersion}`,
    modified: new Date(config.modified),
    name: escapeName(config.name),
    guestFullName: guestName(config.guestId),
    version: `vmx-${String(config.hardware).padStart(2, '0')}`,
    uuid: config.uuid,
    createDate: new Date(vm.createdAt ?? config.modified),
    instanceUuid: config.instanceUuid,
    npivTemporaryDisabled: true,
    locationId: undefined,
    template: snapshot === undefined ? vm.template : false,
    guestId: config.guestId,
    alternateGuestName: '',
    annotation: config.annotation,
    files: {
      $type: 'VirtualMachineFileInfo',
      vmPathName: vm.path,
      snapshotDirectory: `${directory}/`.replace(']/', ']'),
      suspendDirectory: `${directory}/`.replace(']/', ']'),
      logDirectory: `${directory}/`.replace(']/', ']'),
    },
    tools: {
      $type: 'ToolsConfigInfo',
      toolsVersion: vm.tools === 'notInstalled' ? 0 : 12_389,
      afterPowerOn: true,
      afterResume: true,
      beforeGuestStandby: true,
      beforeGuestShutdown: true,
    },
    flags: {
      $type: 'VirtualMachineFlagInfo',
      disableAcceleration: false,
      enableLogging: true,
      useToe: false,
      runWithDebugInfo: false,
      monitorType: 'release',
      htSharing: 'any',
      snapshotDisabled: false,
      snapshotLocked: false,
      diskUuidEnabled: config.extraConfig['disk.EnableUUID']?.toUpperCase() === 'TRUE',
    },
    defaultPowerOps: {
      $type: 'VirtualMachineDefaultPowerOpInfo',
      powerOffType: 'soft',
      suspendType: 'hard',
      resetType: 'soft',
      defaultPowerOffType: 'soft',
      defaultSuspendType: 'hard',
      defaultResetType: 'soft',
      standbyAction: 'checkpoint',
    },
    hardware: {
      $type: 'VirtualHardware',
      numCPU: config.cpus,
      numCoresPerSocket: 1,
      memoryMB: config.memoryMb,
      virtualICH7MPresent: false,
      virtualSMCPresent: false,
      device: deviceList(view, config, datacenter),
    },
    cpuAllocation: allocation(1000),
    memoryAllocation: allocation(10 * config.memoryMb),
    latencySensitivity: { $type: 'LatencySensitivity', level: 'normal' },
    memoryHotAddEnabled: false,
    cpuHotAddEnabled: false,
    cpuHotRemoveEnabled: false,
    extraConfig: extraConfigOf(config).map(([key, value]) => ({ $type: 'OptionValue', key, value })),
    datastoreUrl: stores.map((store) => ({
      $type: 'VirtualMachineConfigInfoDatastoreUrlPair',
      name: store.name,
      url: `/vmfs/volumes/${store.uuid}`,
    })),
    swapPlacement: 'inherit',
    bootOptions: {
      $type: 'VirtualMachineBootOptions',
      bootDelay: 0,
      enterBIOSSetup: false,
      efiSecureBootEnabled: false,
      bootRetryEnabled: false,
      bootRetryDelay: 10_000,
      networkBootProtocol: 'ipv4',
    },
    vAssertsEnabled: false,
    changeTrackingEnabled: config.changeTracking,
    firmware: config.firmware,
    maxMksConnections: -1,
    guestAutoLockEnabled: true,
    managedBy: config.managedBy === undefined ? undefined : { $type: 'ManagedByInfo', ...config.managedBy },
    memoryReservationLockedToMax: false,
    nestedHVEnabled: false,
    vPMCEnabled: false,
    messageBusTunnelEnabled: false,
  }
}

/** What a host puts into extraConfig beside the administrator's own keys. */
export function extraConfigOf(config: ConfigRecord): [string, string][] {
  const found = new Map<string, string>([
    ['nvram', 'vm.nvram'],
    ['svga.present', 'TRUE'],
    ['tools.guest.desktop.autolock', 'TRUE'],
  ])
  if (config.changeTracking) {
    found.set('ctkEnabled', 'TRUE')
    for (const disk of disksOf(config)) if (disk.changeId !== undefined) found.set(`${diskLabel(config, disk)}.ctkEnabled`, 'TRUE')
  }
  for (const [key, value] of Object.entries(config.extraConfig)) found.set(key, value)
  return [...found]
}

function capability(vm: VmRecord): LabObject {
  const yes = [
    'snapshotOperationsSupported',
    'multipleSnapshotsSupported',
    'snapshotConfigSupported',
    'poweredOffSnapshotsSupported',
    'memorySnapshotsSupported',
    'revertToSnapshotSupported',
    'quiescedSnapshotsSupported',
    'disableSnapshotsSupported',
    'lockSnapshotsSupported',
    'consolePreferencesSupported',
    'cpuFeatureMaskSupported',
    's1AcpiManagementSupported',
    'toolsSyncTimeSupported',
    'settingVideoRamSizeSupported',
    'settingDisplayTopologySupported',
    'recordReplaySupported',
    'bootOptionsSupported',
    'bootRetryOptionsSupported',
    'diskSharesSupported',
    'nestedHVSupported',
    'vPMCSupported',
    'changeTrackingSupported',
    'hostBasedReplicationSupported',
    'diskOnlySnapshotOnSuspendedVMSupported',
  ]
  const flags = Object.fromEntries(yes.map((name) => [name, true]))
  return {
    $type: 'VirtualMachineCapability',
    ...flags,
    settingScreenResolutionSupported: false,
    toolsAutoUpdateSupported: false,
    vmNpivWwnSupported: false,
    npivWwnOnNonRdmVmSupported: false,
    vmNpivWwnDisableSupported: false,
    vmNpivWwnUpdateSupported: false,
    swapPlacementSupported: true,
    virtualMmuUsageSupported: true,
    recordReplaySupported: false,
    changeTrackingSupported: vm.config.hardware >= 7,
    snapshotOperationsSupported: !vm.template,
  }
}

function runtime(view: View, vm: VmRecord): LabObject {
  return {
    $type: 'VirtualMachineRuntimeInfo',
    host: view.refOf(vm.host),
    connectionState: 'connected',
    powerState: vm.power,
    faultToleranceState: 'notConfigured',
    toolsInstallerMounted: false,
    bootTime: vm.bootTime === undefined ? undefined : new Date(vm.bootTime),
    suspendInterval: 0,
    snapshotInBackground: false,
    numMksConnections: 0,
    maxCpuUsage: 2000 * vm.config.cpus,
    maxMemoryUsage: vm.config.memoryMb,
    recordReplayState: 'inactive',
    onlineStandby: false,
    consolidationNeeded: vm.consolidationNeeded,
    offlineFeatureRequirement: undefined,
  }
}

const running = (vm: VmRecord): boolean => vm.power === 'poweredOn' && vm.tools === 'running'

function guest(vm: VmRecord): LabObject {
  const up = running(vm)
  return {
    $type: 'GuestInfo',
    toolsStatus: vm.tools === 'notInstalled' ? 'toolsNotInstalled' : up ? 'toolsOk' : 'toolsNotRunning',
    toolsVersionStatus: vm.tools === 'notInstalled' ? 'guestToolsNotInstalled' : 'guestToolsCurrent',
    toolsVersionStatus2: vm.tools === 'notInstalled' ? 'guestToolsNotInstalled' : 'guestToolsCurrent',
    toolsRunningStatus: up ? 'guestToolsRunning' : 'guestToolsNotRunning',
    toolsVersion: vm.tools === 'notInstalled' ? '0' : '12389',
    guestId: up ? vm.config.guestId : undefined,
    guestFamily: up ? (windows(vm.config) ? 'windowsGuest' : 'linuxGuest') : undefined,
    guestFullName: up ? guestName(vm.config.guestId) : undefined,
    hostName: up ? (vm.hostName ?? vm.config.name) : undefined,
    ipAddress: up ? vm.ip : undefined,
    net: up
      ? vm.config.devices.flatMap((device) =>
          device.kind === 'nic'
            ? [
                {
                  $type: 'GuestNicInfo',
                  network: device.network,
                  ipAddress: vm.ip === undefined ? [] : [vm.ip],
                  macAddress: device.mac,
                  connected: true,
                  deviceConfigId: device.key,
                },
              ]
            : [],
        )
      : [],
    screen: { $type: 'GuestScreenInfo', width: -1, height: -1 },
    guestState: vm.power === 'poweredOn' ? 'running' : 'notRunning',
    appHeartbeatStatus: 'appStatusGray',
    guestOperationsReady: up,
    interactiveGuestOperationsReady: false,
    guestStateChangeSupported: up,
  }
}

function snapshotInfo(view: View, vm: VmRecord): LabValue {
  if (vm.snapshots.length === 0) return undefined
  const current = vm.snapshots.find((snapshot) => snapshot.id === vm.currentSnapshot)
  const tree = (parent: string | undefined): LabObject[] =>
    vm.snapshots
      .filter((snapshot) => snapshot.parent === parent)
      .map((snapshot) => ({
        $type: 'VirtualMachineSnapshotTree',
        snapshot: view.snapshotRef(snapshot, vm),
        vm: view.vmRef(vm),
        name: snapshot.name,
        description: snapshot.description,
        id: snapshot.number,
        createTime: new Date(snapshot.createdAt),
        state: snapshot.power,
        quiesced: snapshot.quiesced,
        childSnapshotList: tree(snapshot.id),
        replaySupported: false,
      }))
  return {
    $type: 'VirtualMachineSnapshotInfo',
    currentSnapshot: current === undefined ? undefined : view.snapshotRef(current, vm),
    rootSnapshotList: tree(undefined),
  }
}

/** Ids of the datastores a VM lies on. */
export function datastoresOf(view: View, vm: VmRecord): string[] {
  const names = new Set<string>(
    [vm.path, ...disksOf(vm.config).flatMap((disk) => disk.chain.map((link) => link.path))].map(
      (path) => /^\[([^\]]+)\]/.exec(path)?.[1] ?? '',
    ),
  )
  return [...names].map((name) => view.world.datastore(name)?.id).filter((id) => id !== undefined)
}

/** Those and what a CD drive's image lies on, as `VirtualMachine.datastore` and `Datastore.vm` have them. */
export function datastoresUsedBy(view: View, vm: VmRecord): string[] {
  const images = vm.config.devices.flatMap((device) => (device.kind === 'cdrom' ? [/^\[([^\]]+)\]/.exec(device.iso ?? '')?.[1] ?? ''] : []))
  const ids = images.map((name) => view.world.datastore(name)?.id).filter((id) => id !== undefined)
  return [...new Set([...datastoresOf(view, vm), ...ids])]
}

function networksOf(view: View, vm: VmRecord): LabValue {
  const datacenter = view.world.datacenterOf(vm.id)?.id
  const ids = new Set(
    vm.config.devices.flatMap((device) => (device.kind === 'nic' ? [view.world.network(device.network, datacenter)?.id] : [])),
  )
  return [...ids].map((id) => view.refOf(id)).filter((ref) => ref !== undefined)
}

function customValues(view: View, vm: VmRecord): LabValue {
  const found = view.world.lab.customFields.flatMap((field): LabObject[] => {
    const value = vm.customValues[String(field.key)]
    return value === undefined ? [] : [{ $type: 'CustomFieldStringValue', key: field.key, value }]
  })
  return found.length === 0 ? arrayOf('CustomFieldValue', []) : found
}

export const customFieldDefs = (view: View): LabObject[] =>
  view.world.lab.customFields.map((field) => ({
    $type: 'CustomFieldDef',
    key: field.key,
    name: field.name,
    type: 'string',
    managedObjectType: field.moType,
  }))

function summary(view: View, files: Files, vm: VmRecord): LabObject {
  const used = usage(files, vm)
  const disks = disksOf(vm.config)
  return {
    $type: 'VirtualMachineSummary',
    vm: view.vmRef(vm),
    runtime: runtime(view, vm),
    guest: {
      $type: 'VirtualMachineGuestSummary',
      guestId: running(vm) ? vm.config.guestId : undefined,
      guestFullName: running(vm) ? guestName(vm.config.guestId) : undefined,
      toolsStatus: vm.tools === 'notInstalled' ? 'toolsNotInstalled' : running(vm) ? 'toolsOk' : 'toolsNotRunning',
      toolsVersionStatus: vm.tools === 'notInstalled' ? 'guestToolsNotInstalled' : 'guestToolsCurrent',
      toolsVersionStatus2: vm.tools === 'notInstalled' ? 'guestToolsNotInstalled' : 'guestToolsCurrent',
      toolsRunningStatus: running(vm) ? 'guestToolsRunning' : 'guestToolsNotRunning',
      hostName: running(vm) ? (vm.hostName ?? vm.config.name) : undefined,
      ipAddress: running(vm) ? vm.ip : undefined,
    },
    config: {
      $type: 'VirtualMachineConfigSummary',
      name: escapeName(vm.config.name),
      template: vm.template,
      vmPathName: vm.path,
      memorySizeMB: vm.config.memoryMb,
      cpuReservation: 0,
      memoryReservation: 0,
      numCpu: vm.config.cpus,
      numEthernetCards: vm.config.devices.filter((device) => device.kind === 'nic').length,
      numVirtualDisks: disks.length,
      uuid: vm.config.uuid,
      instanceUuid: vm.config.instanceUuid,
      guestId: vm.config.guestId,
      guestFullName: guestName(vm.config.guestId),
      annotation: vm.config.annotation,
      installBootRequired: false,
    },
    storage: {
      $type: 'VirtualMachineStorageSummary',
      committed: used.committed,
      uncommitted: used.uncommitted,
      unshared: used.committed,
      timestamp: view.world.now(),
    },
    quickStats: {
      $type: 'VirtualMachineQuickStats',
      guestHeartbeatStatus: running(vm) ? 'green' : 'gray',
      overallCpuUsage: vm.power === 'poweredOn' ? 40 : 0,
      hostMemoryUsage: vm.power === 'poweredOn' ? vm.config.memoryMb : 0,
    },
    overallStatus: 'green',
  }
}

function usage(files: Files, vm: VmRecord): { committed: number; uncommitted: number } {
  const committed = files.ofVm(vm).reduce((sum, file) => sum + file.allocated, 0)
  const promised = disksOf(vm.config).reduce((sum, disk) => sum + disk.capacity, 0)
  return { committed, uncommitted: Math.max(0, promised - committed) }
}

function storage(view: View, files: Files, vm: VmRecord): LabObject {
  return {
    $type: 'VirtualMachineStorageInfo',
    perDatastoreUsage: datastoresOf(view, vm).map((id) => {
      const used = usage(files, vm)
      return {
        $type: 'VirtualMachineUsageOnDatastore',
        datastore: view.refOf(id),
        committed: used.committed,
        uncommitted: used.uncommitted,
        unshared: used.committed,
      }
    }),
    timestamp: view.world.now(),
  }
}

/** layoutEx: every file that the VM knows of, and which of them make up each disk, now and in each snapshot. */
function layout(view: View, files: Files, vm: VmRecord): LabObject {
  const list = files.knownOfVm(vm)
  const keys = new Map(list.map((file, index) => [file.path, index]))
  const disks = (config: ConfigRecord): LabObject[] =>
    disksOf(config).map((disk) => ({
      $type: 'VirtualMachineFileLayoutExDiskLayout',
      key: disk.key,
      chain: [...disk.chain].reverse().map((link) => ({
        $type: 'VirtualMachineFileLayoutExDiskUnit',
        fileKey: files
          .ofLink(link)
          .map((path) => keys.get(path))
          .filter((key) => key !== undefined),
      })),
    }))
  const stem = basename(baseName(vm.path), '.vmx')
  return {
    $type: 'VirtualMachineFileLayoutEx',
    file: list.map((file, index) => ({
      $type: 'VirtualMachineFileLayoutExFileInfo',
      key: index,
      name: file.path,
      type: file.type,
      size: file.size,
      uniqueSize: file.allocated,
      backingObjectId: '',
      accessible: true,
    })),
    disk: disks(vm.config),
    snapshot: vm.snapshots.map((snapshot) => ({
      $type: 'VirtualMachineFileLayoutExSnapshotLayout',
      key: view.snapshotRef(snapshot, vm),
      dataKey: keys.get(within(directoryOf(vm.path), `${stem}-Snapshot${snapshot.number}.vmsn`)) ?? -1,
      memoryKey: -1,
      disk: disks(snapshot.config),
    })),
    timestamp: view.world.now(),
  }
}
