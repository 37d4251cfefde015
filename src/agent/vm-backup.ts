import { tmpdir } from 'node:os'
import {
  anySignal,
  type BackupMode,
  isAgentError,
  type JobId,
  type QuiescePolicy,
  type RunId,
  type RunRecord,
  toAgentError,
  type VmRef,
} from '../core/index.ts'
import { backupVm, type BackupProgress, type BackupResult, skipOf } from '../flow/index.ts'
import type { LeftError } from '../journal/index.ts'
import type { BackupProvider } from '../provider/index.ts'
import type { StageProgram } from '../stages/index.ts'
import { createSnapshots, type SpaceGuard, type SpaceWatch } from '../snapshot/index.ts'
import type { Transport } from '../transport/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import type { Agent } from './agent.ts'
import type { VmOutcome } from './backup-run.ts'
import type { AgentConfig } from './config/config.ts'
import { insideRun } from './log-scope.ts'
import { badRecord, goodRecord, interruptedRecord, type RunOrigin } from './vm-run-record.ts'
import { noticeWaits } from './wait-notice.ts'

/** Several runs may share them. */
export type VmBackupParts = {
  readonly agent: Agent
  /** The agent's own settings, or with a job's over them. */
  readonly config: AgentConfig
  readonly vsphere: Vsphere
  readonly provider: BackupProvider
  readonly transports: readonly Transport[]
  readonly spaceGuard: SpaceGuard
}

export type VmBackupRequest = {
  readonly vm: VmRef
  readonly run: RunId
  readonly mode: 'auto' | BackupMode
  readonly quiesce: QuiescePolicy
  readonly guestScripts?: boolean | 'require' | 'try' | undefined
  readonly excludeDisks: readonly string[]
  readonly origin?: RunOrigin | undefined
  /** Programs of the proxy that the job of `origin` wants around its runs. */
  readonly stages?: readonly StageProgram[] | undefined
  /** Resolves when it is this VM's turn; its place is kept until the answer of `backupOne` is there. */
  readonly turn?: ((signal: AbortSignal | undefined) => Promise<void>) | undefined
  /** Another job that has the VM or the repository makes no failed run: nothing is written down, and the outcome says `busy`. */
  readonly busyIsNoRun?: boolean | undefined
  /** The run may leave something half written in the destination under its own id: it takes the claim itself. */
  readonly ownWrites?: boolean | undefined
  readonly onJob?: ((job: JobId) => void) | undefined
  readonly onProgress?: ((progress: BackupProgress) => void) | undefined
  readonly onWait?: ((vm: string, wait: string | undefined) => void) | undefined
  readonly onRecord?: ((record: RunRecord) => void) | undefined
}

/**
 * One run of one VM, a job of its own in the journal, with its record in the history. Never fails: what went wrong is in the outcome.
 * `partOf` is the signal of the job around it.
 */
export function backupOne(parts: VmBackupParts, request: VmBackupRequest, partOf: AbortSignal | undefined): Promise<VmOutcome> {
  const { run, vm, origin } = request
  return insideRun({ run, vm: vm.name, job: origin?.job }, () => backUp(parts, request, partOf))
}

async function backUp(parts: VmBackupParts, request: VmBackupRequest, partOf: AbortSignal | undefined): Promise<VmOutcome> {
  const { agent, config, vsphere, provider, transports, spaceGuard } = parts
  const { clock, log } = agent
  const { vm, run, mode, origin } = request
  let stillHeld: LeftError | undefined
  // Until the job has ended: what its snapshot holds counts for the others until it is gone.
  using space = spaceGuard.watch(vm)
  const stageWarnings: string[] = []
  let job: JobId | undefined
  const onWait = noticeWaits({
    clock,
    log,
    tell: async (wait) => {
      if (wait !== undefined) log.info('a backup waits', { wait })
      request.onWait?.(vm.name, wait)
      if (job !== undefined) await agent.journal.waits(job, wait)
    },
  })
  // As long: a snapshot counts until it is removed.
  await using limits = agent.limits.of(vm.name, { onWait })
  const read = new Map<string, BackupProgress>()
  let begunAt = clock.now()
  const ended = () => ({ run, vm, origin, repository: provider.url, mode, begunAt, endedAt: clock.now() })
  try {
    const deps = {
      vsphere,
      snapshots: createSnapshots(vsphere, agent.snapshotChanges(vsphere)),
      space,
      transports,
      reopen: config.resume,
      limits,
      provider,
      locks: agent.locks,
      scripts: agent.scripts,
      stages: agent.stages,
      marks: agent.marks,
      clock,
      log,
    }
    const made = await agent.job(
      'backup',
      { run, vm, repository: provider.url, mode, ...origin },
      async (claims, signal) => {
        job = claims.job
        request.onJob?.(job)
        await request.turn?.(signal)
        begunAt = clock.now()
        log.info('a backup begins', { mode, repository: provider.url })
        if (request.ownWrites === true) {
          const destination = { url: provider.url, run, temporary: tmpdir() }
          await claims.take('repositoryWrite', destination, [], async () => destination)
        }
        return backupVm(
          deps,
          claims,
          {
            vm,
            run,
            mode,
            quiesce: request.quiesce,
            freezeLimitMs: config.freezeLimitMs,
            windowsQuiesce: config.windowsQuiesce,
            guestScripts: request.guestScripts,
            stages: origin && { ...origin, programs: request.stages ?? [], onWarning: (warning) => void stageWarnings.push(warning) },
            changeTracking: config.changeTracking,
            excludeDisks: request.excludeDisks,
            parallelDisks: config.limits.disksPerVm,
          },
          { signal: anySignal(signal, space.signal), onProgress: (at) => progressed(space, at) },
        )
      },
      {
        partOf,
        onLeft: (left) => {
          stillHeld ??= left
        },
      },
    )
    // Those of programs that came last are told when the job is over.
    const result = { ...made, warnings: [...made.warnings, ...stageWarnings] }
    log.info('a backup is stored', {
      point: result.point,
      mode: result.mode,
      consistency: result.consistency,
      readBytes: result.disks.reduce((sum, disk) => sum + disk.readBytes, 0),
      notProtected: result.notProtected.length,
    })
    await catalogue(parts, run, result)
    await remember(goodRecord(ended(), result, stillHeld))
    return { ok: true, ...result, stillHeld }
  } catch (error) {
    const shown = toAgentError(error)
    if (request.busyIsNoRun === true && isAgentError(shown, 'CONFLICT') && shown.retry === 'later')
      return { ok: false, vm, error: shown, busy: true }
    const skipped = skipOf(shown)
    if (skipped === undefined) log.error('backup failed', { code: shown.code, error: shown.message })
    else log.info('a program skipped a VM', { reason: skipped })
    const cutOff = skipped === undefined && origin !== undefined && shown.code === 'CANCELED' && agent.signal.aborted
    await remember({ ...(cutOff ? interruptedRecord(ended()) : badRecord(ended(), shown)), skipped, warnings: stageWarnings })
    return { ok: false, vm, error: shown }
  }

  function progressed(watch: SpaceWatch, at: BackupProgress): void {
    if (at.step === 'read') {
      read.set(at.disk, at)
      const sum = (of: (disk: BackupProgress) => number): number => [...read.values()].reduce((total, disk) => total + of(disk), 0)
      watch.progress(
        sum(({ doneBytes }) => doneBytes),
        sum(({ totalBytes }) => totalBytes),
      )
    }
    request.onProgress?.(at)
  }

  /** The run is over whether or not it could be written down. */
  async function remember(record: RunRecord): Promise<void> {
    try {
      await agent.history.add(record)
    } catch (error) {
      log.warn('the run has ended but the history could not be written', { error: toAgentError(error).message })
    }
    request.onRecord?.(record)
  }
}

/** The catalog is a convenience: the point exists whether or not it could be written there. */
async function catalogue({ agent, provider }: VmBackupParts, run: RunId, result: BackupResult): Promise<void> {
  if (provider.points === undefined) return
  const sum = (of: (disk: BackupResult['disks'][number]) => number): number => result.disks.reduce((total, disk) => total + of(disk), 0)
  try {
    await agent.catalog.add({
      id: result.point,
      repository: provider.url,
      time: result.time,
      vmName: result.vm.name,
      instanceUuid: result.vm.instanceUuid,
      vcenterUuid: result.vm.vcenterUuid,
      mode: result.mode,
      run,
      consistency: result.consistency,
      totalBytes: sum((disk) => disk.capacityBytes),
      readBytes: sum((disk) => disk.readBytes),
      storedBytes: sum((disk) => disk.storedBytes),
      notProtected: result.notProtected.length,
    })
  } catch (error) {
    agent.log.warn('the point is stored but the catalog could not be written', { point: result.point, error: toAgentError(error).message })
  }
}
