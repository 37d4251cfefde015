import type { VmRef } from '../core/index.ts'

/** A VM of one or more jobs, and how old its last good point may be. */
export type CoveredVm = {
  readonly vm: VmRef
  readonly jobs: readonly string[]
  /** Undefined: it has none. */
  readonly lastGoodAt: Date | undefined
  /** The smallest RPO of its jobs, or the age that is told without one. */
  readonly allowedAgeMs: number
  /** False: none of its jobs has an RPO. */
  readonly hasRpo: boolean
  /** Since when it can have been backed up at all; a VM without a point is overdue when the allowed age has passed since. */
  readonly knownSince: Date
}

/** Something that a job does not do. */
export type JobProblem = { readonly job: string; readonly what: string; readonly reason: string }

/** Which VMs are backed up at all, as of a moment. */
export type Coverage = {
  readonly at: Date
  /** VMs of the vCenter that no job names. */
  readonly unselected: readonly VmRef[]
  readonly covered: readonly CoveredVm[]
  /** Jobs that have no VM, or never ran. */
  readonly problems: readonly JobProblem[]
  /** What could not be found out, a sentence each: vCenter did not answer. Never left out of a report. */
  readonly unknown: readonly string[]
}

/** Whether the last good point of a VM is older at a moment than it may be; one without a point has had as long since it is known. */
export const isOverdue = ({ lastGoodAt, knownSince, allowedAgeMs }: CoveredVm, at: Date): boolean =>
  (lastGoodAt ?? knownSince).getTime() + allowedAgeMs < at.getTime()
