import { type LabRef, type Method, type Methods, VimFault } from '../wire/index.ts'
import type { Endpoint } from './endpoint.ts'
import { methodDisabled, noPermission } from './faults.ts'

/** Who may log in. The administrator has every privilege, the restricted user those the scenario names. */
export type Users = { readonly administrator: string; readonly restricted: string; readonly restrictedMay: ReadonlySet<string> }

/** Privilege a method asks for. Methods that are not here need none but System.View. */
const NEEDED: Readonly<Record<string, string>> = {
  CreateSnapshot_Task: 'VirtualMachine.State.CreateSnapshot',
  CreateSnapshotEx_Task: 'VirtualMachine.State.CreateSnapshot',
  RemoveSnapshot_Task: 'VirtualMachine.State.RemoveSnapshot',
  RemoveAllSnapshots_Task: 'VirtualMachine.State.RemoveSnapshot',
  ConsolidateVMDisks_Task: 'VirtualMachine.State.RemoveSnapshot',
  RenameSnapshot: 'VirtualMachine.State.RenameSnapshot',
  RevertToSnapshot_Task: 'VirtualMachine.State.RevertToSnapshot',
  RevertToCurrentSnapshot_Task: 'VirtualMachine.State.RevertToSnapshot',
  QueryChangedDiskAreas: 'VirtualMachine.Provisioning.DiskRandomRead',
  ReconfigVM_Task: 'VirtualMachine.Config.Settings',
  CreateVM_Task: 'VirtualMachine.Inventory.Create',
  CreateChildVM_Task: 'VirtualMachine.Inventory.Create',
  RegisterVM_Task: 'VirtualMachine.Inventory.Register',
  UnregisterVM: 'VirtualMachine.Inventory.Unregister',
  Destroy_Task: 'VirtualMachine.Inventory.Delete',
  Rename_Task: 'VirtualMachine.Config.Rename',
  CloneVM_Task: 'VirtualMachine.Provisioning.Clone',
  RelocateVM_Task: 'Resource.HotMigrate',
  PowerOnVM_Task: 'VirtualMachine.Interact.PowerOn',
  PowerOffVM_Task: 'VirtualMachine.Interact.PowerOff',
  ShutdownGuest: 'VirtualMachine.Interact.PowerOff',
  RebootGuest: 'VirtualMachine.Interact.Reset',
  ResetVM_Task: 'VirtualMachine.Interact.Reset',
  SuspendVM_Task: 'VirtualMachine.Interact.Suspend',
  ExportVm: 'VApp.Export',
  ExportSnapshot: 'VApp.Export',
  ImportVApp: 'VApp.Import',
  CreateFolder: 'Folder.Create',
  MoveIntoFolder_Task: 'VirtualMachine.Inventory.Move',
  DeleteDatastoreFile_Task: 'Datastore.FileManagement',
  MakeDirectory: 'Datastore.FileManagement',
  MoveDatastoreFile_Task: 'Datastore.FileManagement',
  CopyDatastoreFile_Task: 'Datastore.FileManagement',
  CreateVirtualDisk_Task: 'Datastore.FileManagement',
  DeleteVirtualDisk_Task: 'Datastore.FileManagement',
  MoveVirtualDisk_Task: 'Datastore.FileManagement',
  CopyVirtualDisk_Task: 'Datastore.FileManagement',
  SearchDatastore_Task: 'Datastore.Browse',
  SearchDatastoreSubFolders_Task: 'Datastore.Browse',
  DisableMethods: 'Global.DisableMethods',
  EnableMethods: 'Global.EnableMethods',
  AddCustomFieldDef: 'Global.ManageCustomFields',
  RemoveCustomFieldDef: 'Global.ManageCustomFields',
  SetField: 'Global.SetCustomField',
  setCustomValue: 'Global.SetCustomField',
  StartProgramInGuest: 'VirtualMachine.GuestOperations.Execute',
  TerminateProcessInGuest: 'VirtualMachine.GuestOperations.Execute',
  ListProcessesInGuest: 'VirtualMachine.GuestOperations.Query',
  ValidateCredentialsInGuest: 'VirtualMachine.GuestOperations.Query',
  ListFilesInGuest: 'VirtualMachine.GuestOperations.Query',
  InitiateFileTransferFromGuest: 'VirtualMachine.GuestOperations.Query',
  InitiateFileTransferToGuest: 'VirtualMachine.GuestOperations.Modify',
  DeleteFileInGuest: 'VirtualMachine.GuestOperations.Modify',
  NfcGetVmFiles: 'VirtualMachine.Provisioning.GetVmFiles',
  NfcRandomAccessOpenReadonly: 'VirtualMachine.Provisioning.DiskRandomRead',
  NfcRandomAccessOpenDisk: 'VirtualMachine.Provisioning.DiskRandomAccess',
  NfcRandomAccessFileOpen: 'VirtualMachine.Provisioning.DiskRandomRead',
  NfcFileManagement: 'Datastore.FileManagement',
}

export function hasPrivilege(endpoint: Endpoint, userName: string, privilege: string): boolean {
  const { users } = endpoint
  return userName !== users.restricted || users.restrictedMay.has(privilege)
}

/** What a host with the free licence still does through its API: looking, and handing out whole VMs. */
const FREE: ReadonlySet<string> = new Set(['SearchDatastore_Task', 'SearchDatastoreSubFolders_Task', 'QueryChangedDiskAreas', 'ExportVm'])

/** Wraps every method: RestrictedVersion for changes on a free host, NoPermission for a user who lacks its privilege, MethodDisabled where someone disabled it on this VM. */
export function guarded(endpoint: Endpoint, methods: Methods): Methods {
  const guard =
    (name: string, method: Method): Method =>
    (call) => {
      const privilege = NEEDED[name]
      if (endpoint.view.host?.licence === 'free' && privilege !== undefined && !FREE.has(name))
        throw new VimFault('RestrictedVersion', {}, 'Current license or ESXi version prohibits execution of the requested operation.')
      if (privilege !== undefined && !hasPrivilege(endpoint, call.session.userName, privilege))
        throw noPermission(objectFor(endpoint, call.self.ref), privilege)
      const entity = endpoint.view.find(call.self.ref.value)
      if (entity?.kind === 'vm') {
        const disabled = entity.record.disabledMethods.find((entry) => entry.method === name && entry.session !== call.session.key)
        if (disabled !== undefined) throw methodDisabled(disabled.source, name)
      }
      return method(call)
    }
  return Object.fromEntries(
    Object.entries(methods).map(([type, entries]) => [
      type,
      Object.fromEntries(Object.entries(entries).map(([name, method]) => [name, guard(name, method)])),
    ]),
  )
}

/** NoPermission names a managed entity: the object itself, or the root for managers. */
function objectFor(endpoint: Endpoint, self: LabRef): LabRef {
  return endpoint.view.find(self.value) === undefined ? (endpoint.view.refOf(endpoint.view.world.root) ?? self) : self
}

/** Adds up method tables; a method must not be there twice. */
export function joinMethods(...tables: readonly Methods[]): Methods {
  const joined: Record<string, Record<string, Method>> = {}
  for (const table of tables) {
    for (const [type, entries] of Object.entries(table)) {
      const own = (joined[type] ??= {})
      for (const [name, method] of Object.entries(entries)) {
        if (own[name] !== undefined) throw new Error(`${type}.${name} is there twice`)
        own[name] = method
      }
    }
  }
  return joined
}
