import type { BackupMode, JobId, RunId, VmRef } from '../core/index.ts'
import type { BackupProgress } from '../flow/index.ts'
import type { Due, Place, Waiting } from '../schedule/index.ts'
import type { JobConfig } from './config/jobs.ts'
import type { Member } from './job-members.ts'

/** A run of one VM that waits for its turn or is under way. */
export type QueuedRun = Waiting & {
  readonly run: RunId
  /** Undefined: no job's settings, whoever asked. */
  readonly job: JobConfig | undefined
  /** Undefined of a run that somebody asked for. */
  readonly member: Member | undefined
  readonly due: Due
  readonly place: Place
  readonly mode: 'auto' | BackupMode
  /** In the queue since. */
  readonly since: Date
  /** What it waits for, in words, beside a place. */
  waitsFor: string | undefined
  /** Not begun before, ms since 1970. */
  notBefore: number
  /** Since when another job has had its VM or repository, ms since 1970. */
  busySince: number | undefined
  begunAt: Date | undefined
  journalJob: JobId | undefined
  /** Of each disk under way or read. */
  readonly disks: Map<string, BackupProgress>
}

/** Before everything that a schedule wants. */
const ASKED_PRIORITY = 2000

export type AskedRun = {
  readonly vm: VmRef
  readonly place: Place
  readonly job: JobConfig | undefined
  readonly mode: BackupMode | undefined
  readonly by: string
}

export function asked({ vm, place, job, mode, by }: AskedRun, run: RunId, now: Date): QueuedRun {
  const at = now.getTime()
  const due: Due = {
    job: job?.name ?? '',
    vm,
    mode: mode ?? 'incremental',
    priority: ASKED_PRIORITY,
    dueAt: at,
    since: at,
    attempt: 1,
    reason: `${by} asked for it`,
    deadline: undefined,
    beginBy: at,
    openUntil: undefined,
  }
  return { ...fresh(now), run, job, member: undefined, due, place, mode: mode ?? 'auto' }
}

export function wanted(member: Member, due: Due, run: RunId, now: Date): QueuedRun {
  return { ...fresh(now), run, job: member.job, member, due, place: member.place, mode: due.mode }
}

const fresh = (now: Date) => ({
  since: now,
  waitsFor: undefined,
  notBefore: 0,
  busySince: undefined,
  begunAt: undefined,
  journalJob: undefined,
  disks: new Map<string, BackupProgress>(),
})
