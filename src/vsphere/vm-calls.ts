import type { MoRef } from '../core/index.ts'
import { retrieveOne } from './property-collector.ts'
import { resultRef, runTask, type TaskOptions } from './task.ts'
import type { VimData } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** Where a VM is made or registered. `host` may be left out where the pool's cluster chooses one (DRS). */
export type VmTarget = { readonly folder: MoRef; readonly pool: MoRef; readonly host?: MoRef | undefined }

/** CreateVM_Task. `spec` is a VirtualMachineConfigSpec with files.vmPathName. Not idempotent. CONFLICT, CAPACITY, CONFIG. */
export async function createVm(vsphere: Vsphere, target: VmTarget, spec: VimData, options?: TaskOptions): Promise<MoRef> {
  const { folder, pool, host } = target
  return resultRef(await runTask(vsphere, 'CreateVM_Task', folder, { config: spec, pool, host }, options), 'VM')
}

/** RegisterVM_Task; `path` is `[ds] dir/x.vmx`, `name` overrides the file's. CONFLICT when it is registered already; NOT_FOUND. */
export async function registerVm(
  vsphere: Vsphere,
  target: VmTarget,
  path: string,
  name: string | undefined,
  options?: TaskOptions,
): Promise<MoRef> {
  const { folder, pool, host } = target
  return resultRef(await runTask(vsphere, 'RegisterVM_Task', folder, { path, name, asTemplate: false, pool, host }, options), 'VM')
}

/** Forgets the VM and keeps its files. The VM must be off. NOT_FOUND, CONFLICT. */
export async function unregisterVm(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<void> {
  await vsphere.call('UnregisterVM', vm, {}, options)
}

/** Unregisters and deletes the VM's files; an abort leaves it to run. The VM must be off. NOT_FOUND, CONFLICT. */
export async function destroyVm(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void> {
  await runTask(vsphere, 'Destroy_Task', vm, {}, { ...options, leave: true })
}

/** Powered on already = success. */
export async function powerOn(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void> {
  await inState(vsphere, vm, 'poweredOn', options, () => runTask(vsphere, 'PowerOnVM_Task', vm, {}, options))
}

/** Hard power-off; off already = success. */
export async function powerOff(vsphere: Vsphere, vm: MoRef, options?: TaskOptions): Promise<void> {
  await inState(vsphere, vm, 'poweredOff', options, () => runTask(vsphere, 'PowerOffVM_Task', vm, {}, options))
}

async function inState(
  vsphere: Vsphere,
  vm: MoRef,
  wanted: string,
  options: CallOptions | undefined,
  change: () => Promise<unknown>,
): Promise<void> {
  try {
    await change()
  } catch (error) {
    if (!isFault(error, 'InvalidPowerState')) throw error
    const { props } = await retrieveOne(vsphere, vm, ['runtime.powerState'], options)
    if (props.get('runtime.powerState')?.text !== wanted) throw error
  }
}
