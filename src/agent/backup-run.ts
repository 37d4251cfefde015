import { tmpdir } from 'node:os'
import PQueue from 'p-queue'
import {
  type AgentError,
  type BackupMode,
  type QuiescePolicy,
  type RunId,
  type RunRecord,
  unlessAborted,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { BackupProgress, BackupResult } from '../flow/index.ts'
import { selectVms } from '../inventory/index.ts'
import type { JobOutcome, LeftError } from '../journal/index.ts'
import { createSpaceGuard, noSpaceGuard } from '../snapshot/index.ts'
import type { Agent } from './agent.ts'
import { createTransports } from './transports.ts'
import { backupOne } from './vm-backup.ts'
import type { RunOrigin } from './vm-run-record.ts'

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
  | {
      readonly ok: false
      readonly vm: VmRef
      readonly error: AgentError
      /** Another job has the VM or the repository, and who asked wants to wait for that. */
      readonly busy?: true | undefined
    }

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
  await using provider = await agent.openProvider({
    init: request.init,
    run,
    exportFormat: request.exports?.format,
    exportName: request.exports?.name,
  })
  const transports = createTransports(agent, vsphere)
  await using spaceGuard = config.space.guard ? createSpaceGuard({ vsphere, clock, log: agent.log, ...config.space }) : noSpaceGuard()
  const parts = { agent, config, vsphere, provider, transports, spaceGuard }
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
          const outcome = await backupInTurn(vm, signal)
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

  async function backupInTurn(vm: VmRef, partOf: AbortSignal | undefined): Promise<VmOutcome> {
    // The place in the queue is kept until the job has ended, its releases included.
    const ended = Promise.withResolvers<void>()
    try {
      return await backupOne(parts, { ...request, vm, run, turn: (signal) => turn(queue, ended.promise, signal) }, partOf)
    } finally {
      ended.resolve()
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
