import type { AgentStatusView } from '../api/index.ts'
import { formatBytes, type JobId } from '../core/index.ts'
import type { JobStatus, StatusReport } from '../agent/index.ts'
import { printable } from './io.ts'

/** Waiting runs that are shown one by one. */
const SHOWN = 20

/** The queue of a running agent, in lines. */
export function queueText({
  draining,
  waiting,
  running,
  pid,
  since,
}: Pick<AgentStatusView, 'draining' | 'waiting' | 'running' | 'pid' | 'since'>): string {
  const lines = [
    `Agent: process ${pid} since ${since}, ${running.length} running, ${waiting.length} waiting${draining ? ', DRAINED: begins nothing new' : ''}`,
  ]
  for (const { run, vm, job, begunAt, progress } of running) {
    const done =
      progress === undefined ? '' : `, ${formatBytes(progress.doneBytes)} of ${formatBytes(progress.totalBytes)}${rest(progress)}`
    lines.push(`  runs  ${run}  ${printable(vm.name)}${job === undefined ? '' : `  job ${job}`}  since ${begunAt}${done}`)
  }
  for (const { run, vm, job, reason, rpo, waitsFor } of waiting.slice(0, SHOWN)) {
    const risk = rpo === undefined || rpo === 'kept' ? '' : `  RPO ${rpo.toUpperCase()}`
    lines.push(`  waits ${run}  ${printable(vm.name)}${job === undefined ? '' : `  job ${job}`}  ${printable(waitsFor ?? reason)}${risk}`)
  }
  if (waiting.length > SHOWN) lines.push(`  … and ${waiting.length - SHOWN} more wait`)
  return lines.join('\n')
}

function rest({
  doneBytes,
  totalBytes,
  bytesPerSecond = 0,
}: {
  readonly doneBytes: number
  readonly totalBytes: number
  readonly bytesPerSecond?: number | undefined
}): string {
  if (bytesPerSecond <= 0) return ''
  const seconds = Math.ceil((totalBytes - doneBytes) / bytesPerSecond)
  return `, ${formatBytes(bytesPerSecond)}/s, ${seconds > 90 ? `${Math.ceil(seconds / 60)} min` : `${seconds} s`} left`
}

type Journal = AgentStatusView['journal']

/** What an agent elsewhere says of its journal, as it would be read here. */
export function reportOf({ running, leases, leftOver, limits, repositories, finished }: Journal): StatusReport {
  return {
    running: running.map(jobOf),
    leases: leases.map(jobOf),
    leftOver: leftOver.map(jobOf),
    limits,
    repositories: (repositories ?? []).map(({ size, structureAt, dataSince, locks, ...each }) => ({
      ...each,
      size,
      structureAt,
      dataSince,
      locks: locks && { short: locks.short, renewedAt: locks.renewedAt, problem: locks.problem },
    })),
    finished: finished.map(({ job, subject, begunAt, finishedAt, ...rest }) => ({
      ...rest,
      job: job as JobId,
      subject,
      begunAt: new Date(begunAt),
      finishedAt: new Date(finishedAt),
    })),
  }
}

const jobOf = ({ job, subject, pid, leaseUntil, waitsFor, cancel, outcome, held, ...rest }: Journal['running'][number]): JobStatus => ({
  ...rest,
  job: job as JobId,
  subject,
  pid,
  leaseUntil,
  waitsFor,
  cancel,
  outcome,
  held: held.map(({ since, reason, triedAt, ...known }) => ({ ...known, since, reason, triedAt })),
})
