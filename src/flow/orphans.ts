import { type Abortable, type AgentId, type ClaimId, type Clock, isAgentError, type Log } from '../core/index.ts'
import type { ClaimReport, Claims, Journal, JobWork, LeftError, ProcessIdentity, VmLocks } from '../journal/index.ts'
import { findMarked, judgeMark, type MarkedObject, type MarkScan, openClaims, ORPHANS_JOB, type Verdict } from '../orphans/index.ts'
import type { ProxyGuest } from '../transport/index.ts'
import type { Vsphere } from '../vsphere/index.ts'

export type OrphanDeps = {
  readonly vsphere: Vsphere
  readonly journal: Journal
  readonly locks: VmLocks
  /** One job of the journal around `work`, as `runJob`; `onLeft` is told what stays held. */
  readonly job: <T>(kind: string, args: unknown, work: JobWork<T>, options: { readonly onLeft: (left: LeftError) => void }) => Promise<T>
  /** `Processes.isAlive`. */
  readonly isAlive: (owner: ProcessIdentity) => Promise<boolean>
  /** Pids of other processes that have this installation's state directory open; see `holdersOf`. */
  readonly others: () => Promise<readonly number[]>
  readonly agent: AgentId
  readonly host: string
  /** This machine, which may be a proxy VM. */
  readonly guest: ProxyGuest
  readonly clock: Clock
  readonly log: Log
}

export type Orphan = MarkedObject & { readonly verdict: Verdict }

export type OrphanSearch = Omit<MarkScan, 'marked'> & { readonly orphans: readonly Orphan[] }

/** What became of one thing that was to be removed. `kept`: its job stays in the journal, and recovery goes on with it. */
export type Removed = { readonly orphan: Orphan; readonly result: 'removed' | 'kept'; readonly reason: string | undefined }

/**
 * Everything in vSphere that carries a mark of ours, each with a verdict. Changes nothing. `named`: an agent whose marks the user takes
 * responsibility for. The journal is read after vSphere: what a living job makes meanwhile is known by then.
 */
export async function findOrphans(
  deps: OrphanDeps,
  options: Abortable & { readonly named?: AgentId | undefined } = {},
): Promise<OrphanSearch> {
  const { agent, host, journal, clock } = deps
  const began = clock.now()
  const { marked, ...rest } = await findMarked(deps.vsphere, deps.guest, options)
  const open = await openClaims(journal, deps.isAlive, clock)
  const others = await deps.others()
  const orphans: Orphan[] = []
  for (const object of marked) {
    const verdict = await judgeMark(object, { agent, host, named: options.named, journal, began, open, others })
    if (verdict.standing !== 'gone') orphans.push({ ...object, verdict })
  }
  return { ...rest, orphans }
}

/**
 * Removes what has been judged removable: all that one job made is taken over by one new job of the journal, claim by claim, and then released
 * through the releasers as everything else. So a crash in between leaves jobs that recovery goes on with, and what was not taken over yet is
 * simply found again. An abort ends it between two jobs. Throws only when the journal cannot be written.
 */
export async function removeOrphans(deps: OrphanDeps, orphans: readonly Orphan[], options?: Abortable): Promise<readonly Removed[]> {
  const removed: Removed[] = []
  const jobs = Map.groupBy(
    orphans.filter(({ verdict }) => verdict.removable),
    (orphan) => orphan.mark?.job ?? orphan.claim,
  )
  for (const group of jobs.values()) {
    options?.signal?.throwIfAborted()
    const kept = await releaseAll(deps, group)
    for (const orphan of group) {
      const left = kept.find((report) => report.orphan === orphan)
      removed.push({ orphan, result: left === undefined ? 'removed' : 'kept', reason: left?.reason })
    }
  }
  return removed
}

/** `findOrphans` and `removeOrphans` in one: what a lost journal knew, found by this agent's marks. Called once a journal was lost; idempotent. */
export async function adoptMarked(deps: OrphanDeps, options?: Abortable): Promise<readonly Removed[]> {
  const { orphans } = await findOrphans(deps, options)
  return removeOrphans(deps, orphans, options)
}

type Kept = { readonly orphan: Orphan; readonly reason: string }

/** One job around everything of one group. Directories below the VMs in them, and snapshots below attached disks, so that these go first. */
async function releaseAll(deps: OrphanDeps, group: readonly Orphan[]): Promise<readonly Kept[]> {
  const vcenterUuid = deps.vsphere.about.instanceUuid
  const of = new Map<string, Orphan>()
  const kept: Kept[] = []
  const note = (reports: readonly ClaimReport[]): void => {
    for (const { claim, reason } of reports) {
      const orphan = of.get(claim)
      if (orphan !== undefined) kept.push({ orphan, reason: reason ?? 'It could not be released.' })
    }
  }
  const args = { agent: group[0]?.mark?.agent, job: group[0]?.mark?.job, adopted: group.map(({ claim }) => claim) }
  const take = async (claims: Claims): Promise<void> => {
    const directories: ClaimId[] = []
    const snapshots: ClaimId[] = []
    for (const orphan of group) {
      if (orphan.what.kind !== 'directory') continue
      const { datacenter, path } = orphan.what
      const held = await claims.take('datastoreDirectory', { vcenterUuid, datacenter, path }, [], async () => ({ datacenter, path }))
      of.set(held.id, orphan)
      directories.push(held.id)
    }
    for (const orphan of group) {
      if (orphan.what.kind !== 'vm') continue
      const { moref, vmPathName } = orphan.what
      const made = { vcenterUuid, name: orphan.name, vmPathName }
      const held = await claims.take('registeredVm', made, directories, async () => ({ moref }))
      of.set(held.id, orphan)
    }
    for (const orphan of group) {
      if (orphan.what.kind !== 'snapshot') continue
      const { ref } = orphan.what
      // A backup that runs on the VM reads a chain that a removal would change below it.
      const lock = await claims.take('vmLock', { vm: ref.vm }, [], (claim) => deps.locks.acquire(ref.vm, claim))
      const held = await claims.take('snapshot', { vm: ref.vm, quiesce: ref.quiesced }, [lock.id], async () => ref)
      of.set(held.id, orphan)
      snapshots.push(held.id)
    }
    for (const orphan of group) {
      if (orphan.what.kind !== 'disk') continue
      const { attached, key } = orphan.what
      const held = await claims.take('attachedDisk', attached, snapshots, async () => ({ key }))
      of.set(held.id, orphan)
    }
    for (const { what, name, claim } of group) deps.log.info('an orphan is released', { what: what.kind, name, claim })
  }
  try {
    await deps.job(ORPHANS_JOB, args, take, { onLeft: (left) => note(left.kept) })
  } catch (error) {
    // The VM is being worked on: nothing was released, and nothing is held.
    if (!isAgentError(error, 'CONFLICT')) throw error
    return group.map((orphan) => ({ orphan, reason: error.message }))
  }
  return kept
}
