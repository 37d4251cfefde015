import { type Abortable, isAgentError, type MoRef, toAgentError } from '../core/index.ts'
import { cancelTasksOf, destroyVm, isFault, type Vsphere, waitTasksOf } from '../vsphere/index.ts'

type DestroyOptions = Abortable & { readonly subject: string }

/**
 * Removes a VM whose restore did not succeed, with its files; gone already is success. A dead process's import lease still holds its VM, and
 * vSphere refuses to destroy it: then the import's task is canceled, which ends the lease. Where that task cannot be canceled the refusal
 * (CONFLICT) stands until the lease has run out, within minutes, and vSphere removes the VM itself.
 */
export async function destroyRestored(vsphere: Vsphere, vm: MoRef, options: DestroyOptions): Promise<void> {
  try {
    await destroyVm(vsphere, vm, options)
  } catch (error) {
    if (isAgentError(toAgentError(error), 'NOT_FOUND')) return
    if (!isFault(error, 'InvalidState', 'TaskInProgress')) throw error
    vsphere.log.info('the VM is held by what a dead process began; canceling it', { vm: options.subject })
    await cancelTasksOf(vsphere, vm, options)
    await waitTasksOf(vsphere, vm, options)
    try {
      await destroyVm(vsphere, vm, options)
    } catch (second) {
      if (!isAgentError(toAgentError(second), 'NOT_FOUND')) throw second
    }
  }
}
