import { type Abortable, AgentError, isAgentError, toAgentError } from '../core/index.ts'
import { beginExport, isFault, type Vsphere } from '../vsphere/index.ts'

/** How long a lease of a dead process is waited for, and between two looks. ms */
const ENDS_WITHIN_MS = 60_000
const LOOK_EVERY_MS = 1000

/**
 * Makes sure that no lease of a dead process holds the VM any more whose reference was never learned: nothing carries its claim, but a VM has one
 * lease at most, so that one taken here on the same snapshot is the proof. Gives that lease's reference, for its release; undefined when the snapshot
 * is gone or may not be exported. CONFLICT (`later`) when another one holds the VM for more than a minute: nobody renews it, so it ends by itself
 * within its time-out, minutes on real hosts.
 */
export async function findExport(
  vsphere: Vsphere,
  snapshot: string,
  options: Abortable & { readonly subject: string },
): Promise<string | undefined> {
  const until = vsphere.clock.monotonicMs() + ENDS_WITHIN_MS
  for (;;) {
    try {
      return (await beginExport(vsphere, { type: 'VirtualMachineSnapshot', value: snapshot }, options)).value
    } catch (error) {
      if (isAgentError(toAgentError(error), 'NOT_FOUND', 'AUTH')) return undefined
      if (!isFault(error, 'TaskInProgress', 'InvalidState')) throw error
      if (vsphere.clock.monotonicMs() >= until) {
        throw new AgentError('CONFLICT', `An export lease may still hold ${options.subject} at ${vsphere.host}.`, {
          subject: options.subject,
          next: 'Wait until it has run out, within minutes; then run "vcb recover".',
          retry: 'later',
          cause: error,
        })
      }
    }
    await vsphere.clock.sleep(LOOK_EVERY_MS, options)
  }
}
