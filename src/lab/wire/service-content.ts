import { labRef, type LabObject, type LabRef } from './value.ts'

/** The lab plays a vCenter or a standalone ESXi host. */
export type LabKind = 'vcenter' | 'esxi'

/** Managers by their ServiceContent field. The wire serves those marked `own`; a store that knows one of the others makes it appear. */
const MANAGERS = {
  propertyCollector: ['PropertyCollector', 'propertyCollector', 'ha-property-collector'],
  viewManager: ['ViewManager', 'ViewManager', 'ViewManager'],
  setting: ['OptionManager', 'VpxSettings', 'HostAgentSettings'],
  userDirectory: ['UserDirectory', 'UserDirectory', 'ha-user-directory'],
  sessionManager: ['SessionManager', 'SessionManager', 'ha-sessionmgr'],
  authorizationManager: ['AuthorizationManager', 'AuthorizationManager', 'ha-authmgr'],
  perfManager: ['PerformanceManager', 'PerfMgr', 'ha-perfmgr'],
  alarmManager: ['AlarmManager', 'AlarmManager', undefined],
  eventManager: ['EventManager', 'EventManager', 'ha-eventmgr'],
  taskManager: ['TaskManager', 'TaskManager', 'ha-taskmgr'],
  extensionManager: ['ExtensionManager', 'ExtensionManager', undefined],
  customFieldsManager: ['CustomFieldsManager', 'CustomFieldsManager', undefined],
  accountManager: ['HostLocalAccountManager', undefined, 'ha-localacctmgr'],
  licenseManager: ['LicenseManager', 'LicenseManager', 'ha-license-manager'],
  searchIndex: ['SearchIndex', 'SearchIndex', 'ha-searchindex'],
  fileManager: ['FileManager', 'FileManager', 'ha-nfc-file-manager'],
  virtualDiskManager: ['VirtualDiskManager', 'virtualDiskManager', 'ha-vdiskmanager'],
  ovfManager: ['OvfManager', 'OvfManager', 'ha-ovf-manager'],
  storageResourceManager: ['StorageResourceManager', 'StorageResourceManager', undefined],
  guestOperationsManager: ['GuestOperationsManager', 'guestOperationsManager', 'ha-guest-operations-manager'],
} as const satisfies Record<string, readonly [string, string | undefined, string | undefined]>

export type ManagerName = keyof typeof MANAGERS

/** Managers the wire itself serves. */
export const OWN_MANAGERS = [
  'propertyCollector',
  'viewManager',
  'sessionManager',
  'eventManager',
  'taskManager',
] as const satisfies readonly ManagerName[]

export const SERVICE_INSTANCE = labRef('ServiceInstance', 'ServiceInstance')

/** Reference of a manager on this kind of server; undefined where it does not exist (custom fields on ESXi). */
export function managerRef(kind: LabKind, name: ManagerName): LabRef | undefined {
  const [type, vcenter, esxi] = MANAGERS[name]
  const id = kind === 'vcenter' ? vcenter : esxi
  return id === undefined ? undefined : labRef(type, id)
}

/** Reference of a manager the wire serves, which every kind has. */
export function ownManagerRef(kind: LabKind, name: (typeof OWN_MANAGERS)[number]): LabRef {
  const [type, vcenter, esxi] = MANAGERS[name]
  return labRef(type, kind === 'vcenter' ? vcenter : esxi)
}

/** All managers of this kind with their fields. */
export function managerRefs(kind: LabKind): ReadonlyMap<ManagerName, LabRef> {
  const found = new Map<ManagerName, LabRef>()
  for (const name of Object.keys(MANAGERS) as ManagerName[]) {
    const ref = managerRef(kind, name)
    if (ref !== undefined) found.set(name, ref)
  }
  return found
}

/** AboutInfo of the product played. `instanceUuid` is kept by the lab for ever (a random UUID of its first start). */
export function aboutInfo(kind: LabKind, instanceUuid: string): LabObject {
  const vcenter = kind === 'vcenter'
  const name = vcenter ? 'VMware vCenter Server' : 'VMware ESXi'
  const build = vcenter ? '24022515' : '24022510'
  return {
    $type: 'AboutInfo',
    name,
    fullName: `${name} 8.0.3 build-${build} (vcb lab)`,
    vendor: 'VMware, Inc.',
    version: '8.0.3',
    patchLevel: '00000',
    build,
    localeVersion: 'INTL',
    localeBuild: '000',
    osType: vcenter ? 'linux-x64' : 'vmnix-x86',
    productLineId: vcenter ? 'vpx' : 'embeddedEsx',
    apiType: vcenter ? 'VirtualCenter' : 'HostAgent',
    apiVersion: '8.0.3.0',
    instanceUuid,
    licenseProductName: vcenter ? 'VMware VirtualCenter Server' : 'VMware ESX Server',
    licenseProductVersion: '8.0',
  }
}
