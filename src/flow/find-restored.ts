import { type Abortable, AgentError, type ClaimId } from '../core/index.ts'
import { retrieveAll, vmMakingTaskRuns, type Vsphere } from '../vsphere/index.ts'
import { isRestoreOf } from './vm-import.ts'

/** How long a VM that may still come is waited for, and between two looks. ms */
const COMING_MS = 60_000
const LOOK_EVERY_MS = 500

/**
 * The VM that carries the mark of a restore under this claim in its annotation: its reference, undefined when there is none and none will come.
 * A process may die between asking vSphere for a VM and the VM: for a claim `intendedAt` some time, tasks that may still make it are waited for.
 * CONFLICT (`later`) when one runs for more than a minute and no such VM has come.
 */
export async function findRestored(
  vsphere: Vsphere,
  claim: ClaimId,
  intendedAt: Date | undefined,
  options: Abortable & { readonly subject: string },
): Promise<string | undefined> {
  const until = vsphere.clock.monotonicMs() + COMING_MS
  for (;;) {
    // Asked first: a VM made by a task that ends between the two looks is seen by the second.
    const mayCome = intendedAt !== undefined && (await vmMakingTaskRuns(vsphere, intendedAt, options))
    const found = await findMarked(vsphere, claim, options)
    if (found !== undefined || !mayCome) return found
    if (vsphere.clock.monotonicMs() >= until) {
      throw new AgentError('CONFLICT', `A task that may still make the VM ${options.subject} runs at ${vsphere.host}.`, {
        subject: options.subject,
        next: 'Wait until the import has ended, or cancel it in vCenter; then run "vcb recover".',
        retry: 'later',
      })
    }
    await vsphere.clock.sleep(LOOK_EVERY_MS, options)
  }
}

async function findMarked(vsphere: Vsphere, claim: ClaimId, options?: Abortable): Promise<string | undefined> {
  for await (const { obj, props } of retrieveAll(vsphere, { type: 'VirtualMachine', paths: ['config.annotation'] }, options)) {
    if (isRestoreOf(props.get('config.annotation')?.text ?? '', claim)) return obj.value
  }
  return undefined
}
