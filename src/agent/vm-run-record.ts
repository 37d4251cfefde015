import type { AgentError, BackupMode, RunId, RunRecord, VmRef } from '../core/index.ts'
import type { BackupResult } from '../flow/index.ts'
import { optional, type RecoveredJob } from '../journal/index.ts'

/** Why a run was begun: by a job, and for which moment; neither when somebody asked for it. */
export type RunOrigin = { readonly job: string; readonly dueAt: string | undefined }

export type EndedVm = {
  readonly run: RunId
  readonly vm: VmRef
  readonly origin: RunOrigin | undefined
  readonly repository: string
  /** What was asked for; known before the disks are. */
  readonly mode: 'auto' | BackupMode
  readonly begunAt: Date
  readonly endedAt: Date
}

/** The record of a run of one VM that made a point. `left`: what is still held all the same. */
export function goodRecord(ended: EndedVm, result: BackupResult, left: AgentError | undefined): RunRecord {
  const sum = (of: (disk: BackupResult['disks'][number]) => number): number => result.disks.reduce((total, disk) => total + of(disk), 0)
  return {
    ...shared(ended),
    mode: result.mode,
    result: 'succeeded',
    error: undefined,
    point: result.point,
    consistency: result.consistency,
    totalBytes: sum(({ capacityBytes }) => capacityBytes),
    readBytes: sum(({ readBytes }) => readBytes),
    storedBytes: sum(({ storedBytes }) => storedBytes),
    snapshotLifetimeMs: result.snapshotLifetimeMs,
    frozenMs: result.frozenMs,
    notProtected: result.notProtected.map(({ disk, reason }) => ({ what: disk, reason })),
    warnings: left === undefined ? result.warnings : [...result.warnings, left.message],
  }
}

/** Of one that made none. */
export function badRecord(ended: EndedVm, { code, message, next }: Pick<AgentError, 'code' | 'message' | 'next'>): RunRecord {
  return {
    ...shared(ended),
    mode: ended.mode === 'auto' ? undefined : ended.mode,
    result: code === 'CANCELED' ? 'canceled' : 'failed',
    error: { code, message, next },
    point: undefined,
    consistency: undefined,
    totalBytes: 0,
    readBytes: 0,
    storedBytes: 0,
    snapshotLifetimeMs: undefined,
    frozenMs: undefined,
    notProtected: [],
    warnings: [],
  }
}

/** What is no fault of the VM and nobody's wish: the end of its agent, after which it is made up for. */
export const CUT_OFF = {
  code: 'UNAVAILABLE',
  message: 'The agent that ran it ended before it was done.',
  next: 'Nothing has to be done: the agent makes up for it when it runs again.',
} as const

/** Of one that ended with its agent. */
export const interruptedRecord = (ended: EndedVm): RunRecord => ({ ...badRecord(ended, CUT_OFF), result: 'canceled' })

/** Of a backup whose process died, as recovery found it; empty for another job. */
export function cutOffRecord(
  { kind, args, begunAt }: Pick<RecoveredJob, 'kind' | 'args' | 'begunAt'>,
  endedAt: Date,
): readonly RunRecord[] {
  const [run, uuid] = [optional(args, 'run'), optional(args, 'vm', 'instanceUuid')]
  if (kind !== 'backup' || run === undefined || uuid === undefined) return []
  const text = (name: string): string => optional(args, 'vm', name) ?? ''
  const vm: VmRef = {
    moref: text('moref'),
    name: text('name'),
    instanceUuid: uuid,
    biosUuid: text('biosUuid'),
    vcenterUuid: text('vcenterUuid'),
    path: text('path'),
  }
  const [job, mode] = [optional(args, 'job'), optional(args, 'mode')]
  return [
    interruptedRecord({
      run: run as RunId,
      vm,
      origin: job === undefined ? undefined : { job, dueAt: optional(args, 'dueAt') },
      repository: optional(args, 'repository') ?? '',
      mode: mode === 'full' || mode === 'incremental' ? mode : 'auto',
      begunAt,
      endedAt,
    }),
  ]
}

const shared = ({ run, vm, origin, repository, begunAt, endedAt }: EndedVm) => ({
  run,
  job: origin?.job,
  vm,
  dueAt: origin?.dueAt,
  begunAt: begunAt.toISOString(),
  endedAt: endedAt.toISOString(),
  repository,
})
