import type { VmRef } from '../core/index.ts'

type VmId = Pick<VmRef, 'vcenterUuid' | 'instanceUuid'>

/** Since when a job knows its VMs: what was due earlier is nobody's miss, what was due later is caught up even after the agent was away. */
export interface JobVms {
  /**
   * The VMs that the job has now; those it did not have are known from `at` on, and those it has no more are forgotten. Gives the moment of each, in the order asked.
   * Called whenever a selection is evaluated. Idempotent.
   */
  known(job: string, vms: readonly VmId[], at: Date): Promise<readonly Date[]>
}
