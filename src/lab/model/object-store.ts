import { arrayOf, type LabRef, labRef, type LabValue, type ManagedObject, managerRefs, type ObjectStore } from '../wire/index.ts'
import type { Endpoint } from './endpoint.ts'
import type { Entity } from './entity.ts'
import { guestManagerRefs } from './methods/guest-methods.ts'
import { nfcServiceRef } from './methods/nfc-methods.ts'
import { hostProperty } from './properties/host.ts'
import { datastoreProperty } from './properties/datastore.ts'
import { configInfo, customFieldDefs, vmProperty } from './properties/vm.ts'
import { escapeName } from './wire-name.ts'

/** The objects of one endpoint that the wire does not serve itself: inventory, snapshots, leases and the managers around them. */
export function createObjectStore(endpoint: Endpoint): ObjectStore {
  const { view, model, leases } = endpoint
  const managers = new Map([...managerRefs(view.kind).values()].map((ref) => [ref.value, ref]))

  return {
    get(ref: LabRef): ManagedObject | undefined {
      const entity = view.find(ref.value)
      if (entity !== undefined) {
        const own = view.ref(entity)
        return { ref: own, property: (name) => entityProperty(entity, name) }
      }
      const nfc = nfcServiceRef(view)
      if (ref.value === nfc.value) return { ref: nfc, property: () => undefined }
      const inGuest = Object.values(guestManagerRefs(view)).find((manager) => manager.value === ref.value)
      if (inGuest !== undefined) return { ref: inGuest, property: () => undefined }
      const lease = leases.get(ref.value)
      if (lease !== undefined) return lease
      const manager = managers.get(ref.value)
      if (manager !== undefined && SERVED.has(manager.$ref)) return { ref: manager, property: (name) => managerProperty(manager, name) }
      return attached(ref)
    },
  }

  /** Objects that belong to an entity and are named after it. */
  function attached(ref: LabRef): ManagedObject | undefined {
    const [, kind, id] = /^(datastoreBrowser|envbrowser|datastoreSystem|storageSystem)-(.+)$/.exec(ref.value) ?? []
    const owner = id === undefined ? undefined : view.find(id)
    if (kind === undefined || owner === undefined) return undefined
    const type =
      {
        datastoreBrowser: 'HostDatastoreBrowser',
        envbrowser: 'EnvironmentBrowser',
        datastoreSystem: 'HostDatastoreSystem',
        storageSystem: 'HostStorageSystem',
      }[kind] ?? ''
    const stores = (): LabRef[] =>
      owner.kind === 'datastore'
        ? [view.ref(owner)]
        : owner.kind === 'host'
          ? view
              .datastores()
              .filter((store) => store.hosts.includes(owner.id))
              .map((store) => view.ref(store))
          : view.datastores().map((store) => view.ref(store))
    return {
      ref: labRef(type, ref.value),
      property: (name) =>
        name === 'datastore'
          ? stores()
          : name === 'datastoreBrowser'
            ? labRef('HostDatastoreBrowser', `datastoreBrowser-${view.ref(owner).value}`)
            : undefined,
    }
  }

  function managerProperty(manager: LabRef, name: string): LabValue {
    if (manager.$ref === 'GuestOperationsManager')
      return Object.entries(guestManagerRefs(view)).find(([property]) => property === name)?.[1]
    if (manager.$ref === 'CustomFieldsManager' && name === 'field') return customFieldDefs(view)
    if (manager.$ref === 'ExtensionManager' && name === 'extensionList') return arrayOf('Extension', [])
    if (manager.$ref === 'LicenseManager' && name === 'evaluation') return { $type: 'LicenseManagerEvaluationInfo', properties: [] }
    if (manager.$ref === 'LicenseManager' && name === 'licenses') {
      const free = view.host?.licence === 'free'
      return [
        {
          $type: 'LicenseManagerLicenseInfo',
          licenseKey: '00000-00000-00000-00000-00000',
          editionKey: free ? 'esxBasic' : 'eval',
          name: free ? 'VMware vSphere 8 Hypervisor' : 'Evaluation Mode',
          total: 0,
          used: 0,
          costUnit: '',
        },
      ]
    }
    if (manager.$ref === 'AuthorizationManager' && name === 'roleList') {
      return [
        {
          $type: 'AuthorizationRole',
          roleId: -1,
          system: true,
          name: 'Admin',
          info: { $type: 'Description', label: 'Administrator', summary: 'Full access' },
          privilege: ['System.Anonymous', 'System.View', 'System.Read'],
        },
      ]
    }
    return undefined
  }

  function entityProperty(entity: Entity, name: string): LabValue {
    switch (entity.kind) {
      case 'vm':
        return vmProperty(view, model.files, entity.record, name)
      case 'snapshot': {
        const found = model.world.snapshot(entity.id)
        if (found === undefined) return undefined
        if (name === 'vm') return view.vmRef(found.vm)
        if (name === 'config') return configInfo(view, found.vm, found.snapshot.config, found.snapshot)
        if (name === 'childSnapshot')
          return found.vm.snapshots.filter((child) => child.parent === entity.id).map((child) => view.snapshotRef(child, found.vm))
        return undefined
      }
      case 'host':
        return hostProperty(endpoint, entity, name) ?? common(entity, name)
      case 'datastore':
        return datastoreProperty(endpoint, entity, name) ?? common(entity, name)
      case 'folder':
        if (name === 'childEntity') return view.children(entity).map((child) => view.ref(child))
        if (name === 'childType') return CHILD_TYPES[entity.holds]
        return common(entity, name)
      case 'datacenter':
        if (name === 'vmFolder' || name === 'hostFolder' || name === 'datastoreFolder' || name === 'networkFolder') {
          return view.refOf(
            entity.folders[
              name === 'vmFolder' ? 'vm' : name === 'hostFolder' ? 'host' : name === 'datastoreFolder' ? 'datastore' : 'network'
            ],
          )
        }
        if (name === 'datastore')
          return view
            .datastores()
            .filter((store) => model.world.datacenterOf(store.id)?.id === entity.id)
            .map((store) => view.ref(store))
        if (name === 'network')
          return model.world
            .of('network')
            .filter((network) => view.shows(network) && model.world.datacenterOf(network.id)?.id === entity.id)
            .map((network) => view.ref(network))
        return common(entity, name)
      case 'compute': {
        const hosts = entity.hosts.map((id) => view.refOf(id)).filter((ref) => ref !== undefined)
        if (name === 'host') return hosts
        if (name === 'resourcePool') return view.refOf(entity.pool)
        if (name === 'datastore')
          return view
            .datastores()
            .filter((store) => store.hosts.some((host) => entity.hosts.includes(host)))
            .map((store) => view.ref(store))
        if (name === 'network') return networksBeside(entity.id)
        if (name === 'environmentBrowser') return labRef('EnvironmentBrowser', `envbrowser-${view.ref(entity).value}`)
        if (name === 'summary')
          return {
            $type: entity.cluster ? 'ClusterComputeResourceSummary' : 'ComputeResourceSummary',
            totalCpu: 8000 * hosts.length,
            totalMemory: 2 ** 35 * hosts.length,
            numCpuCores: 4 * hosts.length,
            numCpuThreads: 8 * hosts.length,
            effectiveCpu: 7000 * hosts.length,
            effectiveMemory: 30_000 * hosts.length,
            numHosts: hosts.length,
            numEffectiveHosts: hosts.length,
            overallStatus: 'green',
            ...(entity.cluster ? { currentFailoverLevel: 0, numVmotions: 0 } : {}),
          }
        return common(entity, name)
      }
      case 'pool': {
        if (name === 'owner') return view.refOf(entity.compute)
        if (name === 'vm')
          return view
            .vms()
            .filter((vm) => vm.pool === entity.id)
            .map((vm) => view.vmRef(vm))
        if (name === 'resourcePool') return view.children(entity).map((child) => view.ref(child))
        return common(entity, name)
      }
      case 'network': {
        if (name === 'summary')
          return { $type: 'NetworkSummary', network: view.ref(entity), name: entity.name, accessible: true, ipPoolName: '' }
        if (name === 'host')
          return model.world
            .of('host')
            .filter((host) => view.shows(host) && model.world.datacenterOf(host.id)?.id === model.world.datacenterOf(entity.id)?.id)
            .map((host) => view.ref(host))
        if (name === 'vm')
          return view
            .vms()
            .filter((vm) => vm.config.devices.some((device) => device.kind === 'nic' && device.network === entity.name))
            .map((vm) => view.vmRef(vm))
        return common(entity, name)
      }
    }
  }

  function networksBeside(id: string): LabRef[] {
    const dc = model.world.datacenterOf(id)?.id
    return model.world
      .of('network')
      .filter((network) => view.shows(network) && model.world.datacenterOf(network.id)?.id === dc)
      .map((network) => view.ref(network))
  }

  /** What every ManagedEntity has. */
  function common(entity: Exclude<Entity, { kind: 'vm' | 'snapshot' }>, name: string): LabValue {
    switch (name) {
      case 'name':
        return escapeName(
          entity.kind === 'datacenter' && view.kind === 'esxi'
            ? 'ha-datacenter'
            : entity.kind === 'folder' && entity.parent === undefined && view.kind === 'esxi'
              ? 'ha-folder-root'
              : entity.name,
        )
      case 'parent':
        return view.refOf(entity.parent)
      case 'overallStatus':
      case 'configStatus':
        return 'green'
      case 'alarmActionsEnabled':
        return true
      case 'configIssue':
      case 'permission':
      case 'triggeredAlarmState':
      case 'declaredAlarmState':
      case 'disabledMethod':
      case 'tag':
      case 'customValue':
      case 'value':
      case 'availableField':
        return []
      case 'effectiveRole':
        return [-1]
      case 'recentTask':
        return view.tasks?.recent(view.ref(entity)) ?? []
      default:
        return undefined
    }
  }
}

const CHILD_TYPES: Readonly<Record<string, readonly string[]>> = {
  datacenter: ['Folder', 'Datacenter'],
  vm: ['Folder', 'VirtualMachine', 'VirtualApp'],
  host: ['Folder', 'ComputeResource'],
  datastore: ['Folder', 'Datastore', 'StoragePod'],
  network: ['Folder', 'Network', 'DistributedVirtualSwitch'],
}

/** Managers the model serves; the rest of ServiceContent is the wire's or left out. */
const SERVED = new Set([
  'AuthorizationManager',
  'ExtensionManager',
  'CustomFieldsManager',
  'LicenseManager',
  'SearchIndex',
  'FileManager',
  'VirtualDiskManager',
  'OvfManager',
  'GuestOperationsManager',
])
