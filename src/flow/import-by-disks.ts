import PQueue from 'p-queue'
import {
  AgentError,
  anySignal,
  type Clock,
  type DiskFacts,
  type Log,
  type MoRef,
  throwIfAborted,
  toAgentError,
  type VmConfig,
} from '../core/index.ts'
import { describeVm } from '../inventory/index.ts'
import type { Claims } from '../journal/index.ts'
import { type JobLimits, type ReopenPolicy, type TargetDisk, type Transport, writePlanned } from '../transport/index.ts'
import { makeVmFiles } from './new-vm-files.ts'
import type { RestoreOptions } from './restore-directory.ts'
import { transportClaims } from './transport-claims.ts'
import type { Imported, RestoredBy, VmImport } from './vm-import.ts'

/** Disks written at the same time; each takes some 50 MiB of memory. */
const DISKS_AT_ONCE = 3

/** How the disks are written. */
export type DiskWriters = {
  /** In the order they are tried. */
  readonly transports: readonly Transport[]
  readonly reopen: ReopenPolicy
  /** What writing takes of the limits. */
  readonly limits: JobLimits
  readonly clock: Clock
  readonly log: Log
}

/**
 * Imports disk by disk: a new directory, CreateVirtualDisk_Task (empty, thin or thick as it was), configuration, RegisterVM_Task, then each disk is
 * written into the VM that is off by the transports that read it in a backup. Only what is not zero is sent, so thin stays thin. Errors: as
 * `writePlanned`; what was made until then is among the claims.
 */
export async function importByDisks(work: VmImport, writers: DiskWriters, claims: Claims, options: RestoreOptions): Promise<Imported> {
  const made = await makeVmFiles(work, claims, options)
  for (const disk of work.disks) await made.createDisk(disk)
  const held = await made.register()
  const config = await describeNew(work, held.ref.moref, options)
  const targets = work.disks.map((disk): readonly [DiskFacts, TargetDisk] => [disk, targetOf(config, disk, made.disk(disk))])

  const { limits } = writers
  const failed = new AbortController()
  const signal = anySignal(options.signal, failed.signal)
  const written = new Map<string, RestoredBy>()
  const write = async ([disk, target]: readonly [DiskFacts, TargetDisk]): Promise<void> => {
    throwIfAborted({ signal })
    await using _stream = await limits.stream(work.placement.datastore, { signal })
    await using source = await work.readDisk(disk)
    const result = await writePlanned(source, target, writers.transports, {
      ...writers,
      signal,
      onWait: limits.onWait,
      pace: (bytes, pacing) => limits.pace(bytes, pacing),
      claims: transportClaims(claims, [held.id]),
      onProgress: ({ doneBytes }) => options.onProgress?.({ disk: disk.label, doneBytes, totalBytes: disk.capacityBytes }),
    })
    written.set(disk.label, { ...result, refused: [...work.refused, ...result.refused] })
  }
  const queue = new PQueue({ concurrency: DISKS_AT_ONCE })
  const end = async (target: readonly [DiskFacts, TargetDisk]): Promise<void> => {
    try {
      await queue.add(() => write(target))
    } catch (error) {
      // The others would be written in vain. What ends them says less than this.
      if (!failed.signal.aborted) failed.abort(toAgentError(error))
    }
  }
  await Promise.all(targets.map(end))
  throwIfAborted({ signal: failed.signal })
  const vm: MoRef = { type: 'VirtualMachine', value: held.ref.moref }
  return { vm, claim: held.id, keep: [made.claim.id, held.id], thin: true, disks: written, unmark: () => made.unmark() }
}

const describeNew = (work: VmImport, moref: string, options: RestoreOptions): Promise<VmConfig> =>
  describeVm(
    work.vsphere,
    { moref, name: work.name, instanceUuid: '', biosUuid: '', vcenterUuid: work.vsphere.about.instanceUuid, path: work.name },
    options,
  )

/** The empty disk that was made for one of the point, as the registered VM has it. INTEGRITY when it has another. */
function targetOf(config: VmConfig, disk: DiskFacts, path: string): TargetDisk {
  const found = config.disks.find(({ fileName }) => fileName === path)
  if (found?.capacityBytes === disk.capacityBytes) return { config, disk: found }
  const has = config.disks.map(({ fileName, capacityBytes }) => `${fileName} of ${capacityBytes} bytes`).join(', ') || 'no disk'
  throw new AgentError('INTEGRITY', `The VM made for ${disk.label} has ${has} instead of ${path} of ${disk.capacityBytes} bytes.`, {
    subject: disk.label,
    next: 'Restore with --transport lease, and report this with the log.',
  })
}
