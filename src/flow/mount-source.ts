import {
  type Abortable,
  AgentError,
  anySignal,
  type ClaimId,
  type ConsistencyLevel,
  isAgentError,
  MIB,
  type NotProtected,
  type PointId,
  throwIfAborted,
  toAgentError,
  type VmConfig,
  type VmRef,
} from '../core/index.ts'
import { ReadAheadRoom, readingAhead } from '../disk/index.ts'
import type { Claims } from '../journal/index.ts'
import { openPlanned, type PlannedDisk } from '../transport/index.ts'
import { type ConfigurationFile, readConfigurationFiles } from './configuration-files.ts'
import { storeOf } from './disks-to-read.ts'
import { expectRun } from './expected-run.ts'
import { freezeVm, type LockedVm, lockVm } from './frozen-vm.ts'
import type { ScriptsSaid } from './guest-scripts.ts'
import type { PointToMount, SourceDisk, VmToMount } from './mount-types.ts'
import { recordLocks } from './record-locks.ts'
import { transportClaims } from './transport-claims.ts'

/** What the disks of a mounted point may hold in memory of what nobody has asked for yet, together. */
const READ_AHEAD_BYTES = 16 * MIB

/** How often a VM that is busy is asked for again, ms. */
const ASK_MS = 1000

/** A frozen VM whose disks are open. Disposal closes the disks; what else is held are claims of the job. */
export type MountSource = AsyncDisposable & {
  readonly vm: VmRef
  readonly point: PointId | undefined
  /** Undefined for a disk without a VM. */
  readonly config: VmConfig | undefined
  readonly time: string
  readonly level: ConsistencyLevel
  readonly reason: string
  readonly notProtected: readonly NotProtected[]
  /** What guest scripts of this snapshot said. */
  readonly scripts: ScriptsSaid | undefined
  readonly disks: readonly SourceDisk[]
  /** The claim of its snapshot; undefined for a point. */
  readonly snapshot: ClaimId | undefined
  /** Aborts when what is read cannot be kept any longer. */
  readonly broken: AbortSignal | undefined
  /** VMX and NVRAM; one that cannot be read is a warning. */
  files(warnings: string[], options?: Abortable): Promise<readonly ConfigurationFile[]>
  /** Proves what was read of a disk from its beginning to its end. INTEGRITY, UNAVAILABLE. */
  finish(key: number, options?: Abortable): Promise<void>
}

type Wish = Abortable & {
  /** Disks are read here and there, not only once from beginning to end. */
  readonly anywhere: boolean
  readonly warnings: string[]
}

/** Lock → room → quiesce, snapshot, thaw → open its disks by whichever transport can. */
export async function openSnapshot(claims: Claims, wanted: VmToMount, wish: Wish): Promise<MountSource> {
  const { deps, vm } = wanted
  const locked = await lockWithin(claims, wanted, wish)
  if (locked.config.consolidationNeeded) wish.warnings.push(`${vm.name} needed consolidation before; what is not vcb's is left as it is.`)
  await deps.space.admit(locked.config, expectRun(locked.config, undefined, [], deps.clock.now()), wish.warnings, wish)
  const frozen = await freezeVm(deps, claims, locked, wanted, wish)
  wish.warnings.push(...frozen.warnings)
  const { snapshot, config } = frozen
  const { log, clock, reopen } = deps
  await using opened = new AsyncDisposableStack()
  const planned = new Map<number, PlannedDisk>()
  const disks: SourceDisk[] = []
  for (const disk of frozen.disks) {
    const one = await openPlanned({ snapshot, config, disk, wanted: wish.anywhere ? 'changed' : 'allocated' }, deps.transports, {
      log,
      clock,
      reopen,
      signal: wish.signal,
      claims: transportClaims(claims, [frozen.claim]),
      onWait: deps.limits.onWait,
    })
    const source = opened.use(deps.limits.gently(one.source, storeOf(config, disk)))
    planned.set(disk.key, one)
    const { key, label, capacityBytes, fileName, chain, uuid, thin } = disk
    disks.push({ key, label, capacityBytes, fileName, chain, uuid, thin, source, transport: one.transport })
  }
  const held = opened.move()
  return {
    vm,
    point: undefined,
    config,
    time: snapshot.createdAt,
    level: frozen.level,
    reason: frozen.reason,
    notProtected: frozen.notProtected,
    scripts: frozen.scripts,
    disks,
    snapshot: frozen.claim,
    broken: deps.space.signal,
    files: (warnings, options) => readConfigurationFiles(deps.vsphere, config, warnings, options),
    finish: async (key, options) => planned.get(key)?.finish(options),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

/** The VM's lock; a VM that another job has is asked for again until the time for that is over. */
async function lockWithin(claims: Claims, { deps, vm, waitMs }: VmToMount, options: Abortable): Promise<LockedVm> {
  const until = deps.clock.monotonicMs() + waitMs
  for (;;) {
    try {
      return await lockVm(deps, claims, vm, options)
    } catch (error) {
      const locked = claims.held.some(({ kind }) => kind === 'vmLock')
      if (locked || !isAgentError(toAgentError(error), 'CONFLICT') || deps.clock.monotonicMs() >= until) throw error
    }
    throwIfAborted(options)
    await deps.clock.sleep(ASK_MS, options)
  }
}

/** A restore point, kept from being removed, and its disks. */
export async function openPoint(claims: Claims, { point, store, excludeDisks }: PointToMount, options: Abortable): Promise<MountSource> {
  if (store.onlyForwards !== undefined) {
    throw new AgentError('USAGE', `A point of this repository cannot be mounted: ${store.onlyForwards}.`, {
      subject: point,
      next: 'Restore it into a directory with "vcb restore --to-dir DIR".',
    })
  }
  await using opened = new AsyncDisposableStack()
  const hold = opened.use(await store.hold({ signal: options.signal, recordLocks: recordLocks(claims) }))
  const reader = opened.use(await store.open(point, { signal: anySignal(options.signal, hold.signal) }))
  const { manifest } = reader
  const excluded = manifest.disks.filter(({ label, key }) => excludeDisks.includes(label) || excludeDisks.includes(String(key)))
  const disks: SourceDisk[] = []
  const room = new ReadAheadRoom(READ_AHEAD_BYTES)
  for (const disk of manifest.disks) {
    if (excluded.includes(disk)) continue
    const { key, label, capacityBytes, fileName, uuid, thin } = disk
    const chain = manifest.config.disks.find((each) => each.key === key)?.chain ?? []
    // The disk outlives the work that opens it, so it gets no signal of that.
    const source = opened.use(readingAhead(await reader.disk(key), room))
    disks.push({ key, label, capacityBytes, fileName, chain, uuid, thin, source })
  }
  if (disks.length === 0) throw new AgentError('USAGE', `The restore point ${point.slice(0, 8)} has no disk to show.`, { subject: point })
  const held = opened.move()
  return {
    vm: manifest.vm,
    point: reader.id,
    config: manifest.config,
    time: manifest.time,
    level: manifest.consistency,
    reason: manifest.consistencyReason,
    notProtected: [...manifest.notProtected, ...excluded.map(({ label }) => ({ disk: label, reason: 'was excluded', excluded: true }))],
    scripts: undefined,
    disks,
    snapshot: undefined,
    broken: hold.signal,
    files: async (_warnings, at) => Promise.all(manifest.files.map(async ({ name }) => ({ name, body: await reader.file(name, at) }))),
    finish: async () => undefined,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}
