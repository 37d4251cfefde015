import type { AgentEvent } from '../api/index.ts'
import { type AgentError, isAgentError, type RunRecord, toAgentError } from '../core/index.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config/config.ts'
import { repositoryForJob } from './job-config.ts'
import { insideRun } from './log-scope.ts'
import type { QueuedRun } from './queued-run.ts'
import type { RepositorySessions } from './repository-sessions.ts'
import { backupOne } from './vm-backup.ts'
import { badRecord, interruptedRecord } from './vm-run-record.ts'

export type RunParts = { readonly agent: Agent; readonly config: AgentConfig; readonly sessions: RepositorySessions }

/** `busy`: another job has the VM or the repository, and nothing was done. */
export type QueuedOutcome = { readonly record: RunRecord } | { readonly record: undefined; readonly busy: AgentError }

export type RunListener = { readonly onBegun: () => void; readonly onEvent: (event: AgentEvent) => void }

/** Progress is told so often at most, ms. */
const PROGRESS_MS = 1000

/** One run, from opening its repository to its record in the history. Never fails. */
export function runQueued(parts: RunParts, queued: QueuedRun, listener: RunListener): Promise<QueuedOutcome> {
  const { run, due, job } = queued
  return insideRun({ run, vm: due.vm.name, job: job?.name }, () => runNow(parts, queued, listener))
}

async function runNow(parts: RunParts, queued: QueuedRun, listener: RunListener): Promise<QueuedOutcome> {
  const { agent, config, sessions } = parts
  const { clock } = agent
  const { job, due, run, mode } = queued
  const { vm } = due
  let record: RunRecord | undefined
  queued.begunAt = clock.now()
  try {
    await using use = await sessions.use(config, job)
    queued.waitsFor = undefined
    let toldAt = Number.NEGATIVE_INFINITY
    const outcome = await backupOne(
      use.parts,
      {
        vm,
        run,
        mode,
        quiesce: use.parts.config.quiesce,
        guestScripts: job?.guestScripts,
        excludeDisks: job?.excludeDisks ?? [],
        origin: originOf(queued),
        stages: job?.stages,
        turn: async (signal) => {
          await use.turn(signal)
          queued.begunAt = clock.now()
          listener.onBegun()
        },
        busyIsNoRun: true,
        ownWrites: true,
        onJob: (id) => {
          queued.journalJob = id
        },
        onWait: (_vm, wait) => {
          queued.waitsFor = wait
        },
        onProgress: (at) => {
          queued.disks.set(at.disk, at)
          if (clock.monotonicMs() - toldAt < PROGRESS_MS) return
          toldAt = clock.monotonicMs()
          const { doneBytes, totalBytes } = progressOf(queued)
          const progress = { doneBytes, totalBytes, disk: at.disk }
          listener.onEvent({ type: 'progress', at: clock.now().toISOString(), run, job: job?.name, vm, progress })
        },
        onRecord: (made) => {
          record = made
        },
      },
      use.partOf,
    )
    if (!outcome.ok && outcome.busy === true) return { record: undefined, busy: outcome.error }
  } catch (error) {
    // The repository or vCenter; what went wrong with the VM is in its outcome.
    const shown = toAgentError(error)
    if (record === undefined && isAgentError(shown, 'CONFLICT') && shown.retry === 'later') return { record: undefined, busy: shown }
    record ??= await recordFailed(parts, queued, shown)
  } finally {
    queued.journalJob = undefined
  }
  return { record: record ?? (await recordFailed(parts, queued, toAgentError(new Error('The run left no record.')))) }
}

/** The record of a run that never came to its VM, in the history. */
export async function recordFailed({ agent, config }: RunParts, queued: QueuedRun, error: AgentError): Promise<RunRecord> {
  const { clock, log, history } = agent
  const { run, due, job, mode, begunAt } = queued
  const { vm } = due
  const now = clock.now()
  const ended = { run, vm, origin: originOf(queued), repository: urlOf(config, queued), mode, begunAt: begunAt ?? now, endedAt: now }
  const cutOff = error.code === 'CANCELED' && agent.signal.aborted
  const record = cutOff ? interruptedRecord(ended) : badRecord(ended, error)
  log.error('backup failed', { vm: vm.name, run, job: job?.name, error: error.message })
  try {
    await history.add(record)
  } catch (failure) {
    log.warn('the run has ended but the history could not be written', { run, vm: vm.name, error: toAgentError(failure).message })
  }
  return record
}

/** Bytes over all disks that are read or have been. */
export function progressOf({ disks }: QueuedRun): { readonly doneBytes: number; readonly totalBytes: number } {
  let [doneBytes, totalBytes] = [0, 0]
  for (const disk of disks.values()) {
    if (disk.step !== 'read') continue
    doneBytes += disk.doneBytes
    totalBytes += disk.totalBytes
  }
  return { doneBytes, totalBytes }
}

const originOf = ({ job, member, due }: QueuedRun) =>
  job === undefined ? undefined : { job: job.name, dueAt: member === undefined ? undefined : new Date(due.dueAt).toISOString() }

function urlOf(config: AgentConfig, { job }: QueuedRun): string {
  try {
    return repositoryForJob(config, job).url
  } catch (error) {
    if (!isAgentError(error, 'CONFIG')) throw error
    return ''
  }
}
