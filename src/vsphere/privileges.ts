import type { MoRef } from '../core/index.ts'
import { isFault } from './vim-fault.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** What a backup needs: the snapshot, change tracking, datastore files, NFC, and the traces it leaves. */
export const BACKUP_PRIVILEGES: readonly string[] = Object.freeze([
  'System.View',
  'System.Read',
  'VirtualMachine.Config.ChangeTracking',
  'VirtualMachine.State.CreateSnapshot',
  'VirtualMachine.State.RemoveSnapshot',
  'VirtualMachine.Provisioning.DiskRandomRead',
  'VirtualMachine.Provisioning.DiskRandomAccess',
  'VirtualMachine.Provisioning.GetVmFiles',
  'Datastore.Browse',
  'Datastore.FileManagement',
  'VApp.Export',
  'Global.LogEvent',
])

/** What guest scripts through guest operations need, on the VM. */
export const GUEST_PRIVILEGES: readonly string[] = Object.freeze([
  'VirtualMachine.GuestOperations.Query',
  'VirtualMachine.GuestOperations.Execute',
  'VirtualMachine.GuestOperations.Modify',
])

/** What attaching disks to the proxy VM needs, on that VM. */
export const HOTADD_PRIVILEGES: readonly string[] = Object.freeze([
  'VirtualMachine.Config.AddExistingDisk',
  'VirtualMachine.Config.RemoveDisk',
  'VirtualMachine.Config.AddRemoveDevice',
  'VirtualMachine.Config.AdvancedConfig',
])

/** What a restore to vSphere needs beyond reading. */
export const RESTORE_PRIVILEGES: readonly string[] = Object.freeze([
  'VirtualMachine.Inventory.Create',
  'VirtualMachine.Inventory.Register',
  'VirtualMachine.Inventory.Unregister',
  'VirtualMachine.Inventory.Delete',
  'VirtualMachine.Config.AddExistingDisk',
  'VirtualMachine.Config.AddNewDisk',
  'VirtualMachine.Config.AddRemoveDevice',
  'VirtualMachine.Config.AdvancedConfig',
  'VirtualMachine.Config.CPUCount',
  'VirtualMachine.Config.Memory',
  'VirtualMachine.Config.Settings',
  'VirtualMachine.Interact.PowerOn',
  'VirtualMachine.Interact.PowerOff',
  'VirtualMachine.Provisioning.DiskRandomAccess',
  'Resource.AssignVMToPool',
  'Network.Assign',
  'Datastore.AllocateSpace',
  'Datastore.Browse',
  'Datastore.FileManagement',
  'VApp.Import',
])

/**
 * Privileges of `wanted` that the user lacks on `entity`; undefined where the server cannot tell (HasPrivilegeOnEntities is vCenter's).
 * Changes nothing.
 */
export async function missingPrivileges(
  vsphere: Vsphere,
  entity: MoRef,
  wanted: readonly string[],
  options?: CallOptions,
): Promise<readonly string[] | undefined> {
  if (!vsphere.hasService('authorizationManager')) return undefined
  const args = { entity: [entity], sessionId: vsphere.sessionKey(), privId: wanted }
  try {
    const answer = await vsphere.call('HasPrivilegeOnEntities', vsphere.service('authorizationManager'), args, options)
    const granted = new Set<string>()
    for (const availability of answer.flatMap((one) => one.all('privAvailability'))) {
      if (availability.boolean('isGranted') === true) granted.add(availability.string('privId') ?? '')
    }
    return wanted.filter((privilege) => !granted.has(privilege))
  } catch (error) {
    if (isFault(error, 'MethodNotFound', 'NotImplemented', 'NotSupported')) return undefined
    throw error
  }
}
