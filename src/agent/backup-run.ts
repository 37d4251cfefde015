import { tmpdir } from 'node:os'
import PQueue from 'p-queue'
import {
  type AgentError,
  anySignal,
  type BackupMode,
  type JobId,
  type QuiescePolicy,
  type RunId,
  type RunRecord,
  unlessAborted,
  toAgentError,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import { backupVm, type BackupProgress, type BackupResult } from '../flow/index.ts'
import { selectVms } from '../inventory/index.ts'
import type { JobOutcome, LeftError } from '../journal/index.ts'
import { createSnapshots, createSpaceGuard, noSpaceGuard, type SpaceWatch } from '../snapshot/index.ts'
import type { Agent } from './agent.ts'
import { createTransports } from './transports.ts'
import { badRecord, goodRecord, type RunOrigin } from './vm-run-record.ts'
import { noticeWaits } from './wait-notice.ts'

export type BackupRunRequest = {
  readonly expressions: readonly string[]
  /** Several VMs of one plain name are wanted, not an error. */
  readonly bulk: boolean
  readonly mode: 'auto' | BackupMode
  readonly quiesce: QuiescePolicy
  /** False: no guest scripts; `require` or `try`: instead of their own policy. */
  readonly guestScripts?: boolean | 'require' | 'try' | undefined
  readonly excludeDisks: readonly string[]
  /** Make the repository when there is none. */
  readonly init: boolean
  /** Of a repository that is exports: how its disks are written, and each directory named. */
  readonly exports?: { readonly format: ExportFormat; readonly name?: ((config: VmConfig) => string) | undefined } | undefined
  /** The job that wants it; nobody's but the caller's own wish when absent. */
  readonly origin?: RunOrigin | undefined
  readonly onProgress?: ((progress: BackupProgress) => void) | undefined
  /** Told of each VM when its run has ended and its record is in the history. */
  readonly onRecord?: ((record: RunRecord) => void) | undefined
  readonly onVm?: ((outcome: VmOutcome) => void) | undefined
  /** Told what a VM waits for when that takes longer than a moment, and with undefined when it goes on. */
  readonly onWait?: ((vm: string, wait: string | undefined) => void) | undefined
}

/** `stillHeld`: the point exists, but the snapshot, say, could not be removed yet; recovery does. */
export type VmOutcome =
  | ({ readonly ok: true; readonly stillHeld: LeftError | undefined } & BackupResult)
  | { readonly ok: false; readonly vm: VmRef; readonly error: AgentError }

export type BackupRun = {
  readonly run: RunId
  readonly repository: string
  readonly startedAt: string
  readonly endedAt: string
  readonly vms: readonly VmOutcome[]
}

/**
 * Backs up every VM an expression names, `config.parallel` at a time, each as a job of its own: the failure of one does not touch the others.
 * Throws only what concerns the run as a whole (connection, repository, selection); per-VM errors are in the outcomes.
 */
export async function runBackup(agent: Agent, request: BackupRunRequest): Promise<BackupRun> {
  const { clock, config } = agent
  const startedAt = clock.now().toISOString()
  const vsphere = await agent.vsphere()
  await agent.recoverFirst()
  const vms = await selectVms(vsphere, request.expressions, { bulk: request.bulk, signal: agent.signal })
  const run = agent.ids.run()
  const provider = await agent.provider({
    init: request.init,
    run,
    exportFormat: request.exports?.format,
    exportName: request.exports?.name,
  })
  const transports = createTransports(agent, vsphere)
  await using spaceGuard = config.space.guard ? createSpaceGuard({ vsphere, clock, log: agent.log, ...config.space }) : noSpaceGuard()
  const queue = new PQueue({ concurrency: provider.oneAtATime === undefined ? config.parallel : 1 })
  // Held until no writer of the run is left: what a killed run half wrote is found by the run's id.
  const outcomes = await agent.job(
    'run',
    { run, repository: provider.url },
    async (claims, signal) => {
      const destination = { url: provider.url, run, temporary: tmpdir() }
      await claims.take('repositoryWrite', destination, [], async () => destination)
      return Promise.all(
        vms.map(async (vm): Promise<VmOutcome> => {
          const outcome = await backupOne(vm, signal)
          request.onVm?.(outcome)
          return outcome
        }),
      )
    },
    {
      ofParts: true,
      outcomeOf: runOutcome,
      onLeft: (left) => agent.log.warn('the run is done, but not everything is released', { error: left.message }),
    },
  )
  return { run, repository: provider.url, startedAt, endedAt: clock.now().toISOString(), vms: outcomes }

  async function backupOne(vm: VmRef, partOf: AbortSignal | undefined): Promise<VmOutcome> {
    let stillHeld: LeftError | undefined
    // The place in the queue is kept until the job has ended, its releases included.
    const ended = Promise.withResolvers<void>()
    // Until the job has ended: what its snapshot holds counts for the others until it is gone.
    using space = spaceGuard.watch(vm)
    let job: JobId | undefined
    const onWait = noticeWaits({
      clock,
      log: agent.log,
      tell: async (wait) => {
        if (wait !== undefined) agent.log.info('a backup waits', { vm: vm.name, wait })
        request.onWait?.(vm.name, wait)
        if (job !== undefined) await agent.journal.waits(job, wait)
      },
    })
    // As long: a snapshot counts until it is removed.
    await using limits = agent.limits.of(vm.name, { onWait })
    const read = new Map<string, BackupProgress>()
    let begunAt = clock.now()
    const endedRun = () => {
      const { mode, origin } = request
      return { run, vm, origin, repository: provider.url, mode, begunAt, endedAt: clock.now() }
    }
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
        marks: agent.marks,
        clock,
        log: agent.log,
      }
      const result = await agent.job(
        'backup',
        { run, vm, ...request.origin },
        async (claims, signal) => {
          job = claims.job
          await turn(queue, ended.promise, signal)
          begunAt = clock.now()
          return backupVm(
            deps,
            claims,
            {
              vm,
              run,
              mode: request.mode,
              quiesce: request.quiesce,
              freezeLimitMs: config.freezeLimitMs,
              windowsQuiesce: config.windowsQuiesce,
              guestScripts: request.guestScripts,
              changeTracking: config.changeTracking,
              excludeDisks: request.excludeDisks,
              parallelDisks: config.limits.disksPerVm,
            },
            { signal: anySignal(signal, space.signal), onProgress: (at) => progressed(space, read, at) },
          )
        },
        {
          partOf,
          onLeft: (left) => {
            stillHeld ??= left
          },
        },
      )
      await record(result)
      await remember(goodRecord(endedRun(), result, stillHeld))
      return { ok: true, ...result, stillHeld }
    } catch (error) {
      const shown = toAgentError(error)
      agent.log.error('backup failed', { vm: vm.name, error: shown.message })
      await remember(badRecord(endedRun(), shown))
      return { ok: false, vm, error: shown }
    } finally {
      ended.resolve()
    }
  }

  function progressed(space: SpaceWatch, read: Map<string, BackupProgress>, at: BackupProgress): void {
    if (at.step === 'read') {
      read.set(at.disk, at)
      const sum = (of: (disk: BackupProgress) => number): number => [...read.values()].reduce((total, disk) => total + of(disk), 0)
      space.progress(
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
      agent.log.warn('the run has ended but the history could not be written', {
        run,
        vm: record.vm.name,
        error: toAgentError(error).message,
      })
    }
    request.onRecord?.(record)
  }

  /** The catalog is a convenience: the point exists whether or not it could be written there. */
  async function record(result: BackupResult): Promise<void> {
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
      agent.log.warn('the point is stored but the catalog could not be written', {
        point: result.point,
        error: toAgentError(error).message,
      })
    }
  }
}

/** What a run came to, for lists: its VMs have jobs of their own. */
function runOutcome(outcomes: readonly VmOutcome[]): JobOutcome {
  const errors = outcomes.flatMap((outcome) => (outcome.ok ? [] : [outcome.error]))
  if (errors.length === 0) return { result: 'succeeded' }
  const canceled = errors.every((error) => error.code === 'CANCELED')
  return {
    result: canceled ? 'canceled' : 'failed',
    reason: `${errors.length} of ${outcomes.length} VMs ${canceled ? 'were canceled' : 'failed'}.`,
  }
}

/** Waits for a place in the queue, which is given back when `ended` resolves; a job that is canceled does not wait. */
async function turn(queue: PQueue, ended: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  const turned = Promise.withResolvers<void>()
  const place = queue.add(() => {
    turned.resolve()
    return ended
  })
  await unlessAborted(Promise.race([turned.promise, place]), signal)
}
