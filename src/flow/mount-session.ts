import { join, relative } from 'node:path'
import { type Abortable, AgentError, anySignal, throwIfAborted, writeFileAtomic, writeFileWhole } from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import { type ExportedVm, exportVm } from './export-vm.ts'
import { releaseSnapshot } from './frozen-vm.ts'
import { scriptsFile, type ScriptsSaid } from './guest-scripts.ts'
import { endsAt, endsWith, holdLease } from './hold-lease.ts'
import { letRead } from './let-read.ts'
import { ownDirectory, recordShown, takeMountDirectory } from './mount-directory.ts'
import { type MountSource, openPoint, openSnapshot } from './mount-source.ts'
import type { MountDeps, Mounted, MountRequest, MountResult } from './mount-types.ts'
import { type ShownDisks, showDisks } from './show-disks.ts'
import { showVolumes } from './show-volumes.ts'
import { openVmdk } from './vmdk-source.ts'

/**
 * Shows the disks of one VM to other programs until the lease ends: directory → lock → quiesce, snapshot, thaw → open the disks → present → tell the caller →
 * hold → close. What is held is in `claims`, whose owner disposes them; then the snapshot is removed and its redo logs are committed, as after a backup.
 *
 * Called by the process that holds the lease, once. `onReady` is told once, when everything is there; what it throws ends the lease. `signal` ends the lease in order when it is
 * there, and with CANCELED before; so does a deadline that passes before. Errors: those of a backup's beginning, CONFLICT and NOT_FOUND of the directory.
 */
export async function mountSession(
  deps: MountDeps,
  claims: Claims,
  request: MountRequest,
  options: Abortable & { readonly onReady: (mounted: Mounted) => Promise<void> },
): Promise<MountResult> {
  const { clock, log } = deps
  const { from, types, owner, caller } = request
  const warnings: string[] = []
  const untilMs = clock.monotonicMs() + request.maxHoldMs
  const onError = (error: unknown): void => log.warn('a process could not be looked at', { error })
  using forOwner = owner === undefined ? undefined : endsWith(owner, deps, ownerGone, onError)
  using forCaller = caller === undefined ? undefined : endsWith(caller, deps, ownerGone, onError)
  using inTime = endsAt(untilMs, clock, tooLate(request))
  const preparing = { signal: anySignal(options.signal, forOwner?.signal, forCaller?.signal, inTime.signal), warnings }

  let directory = await takeMountDirectory(claims, request.directory)
  const { path } = directory.ref
  const onlyFiles = types.every((type) => type === 'export')
  await using opened = new AsyncDisposableStack()
  const source = opened.use(await openSource(claims, from, { ...preparing, anywhere: !onlyFiles }))
  let exported: ExportedVm | undefined
  if (types.includes('export')) {
    const done = await exportVm(claims, directory, source, request.exportFormat, warnings, preparing)
    exported = done.exported
    directory = done.shown
  }
  const shown = types.includes('disk')
    ? opened.use(await showDisks(source, { path, claim: directory.id }, deps, claims, request.reader))
    : undefined
  const volumes = types.includes('file')
    ? opened.use(await showVolumes(source, { path, claim: [directory.id] }, deps, claims, preparing))
    : undefined
  if (onlyFiles) {
    // What was to be read has been read: the VM need not write into a redo log while its files are copied.
    await opened.disposeAsync()
    if (source.snapshot !== undefined) await releaseSnapshot(claims, source.snapshot)
  }

  const mounted: Mounted = {
    lease: claims.job,
    vm: source.vm,
    ...(source.point === undefined ? {} : { point: source.point }),
    time: source.time,
    directory: path,
    types,
    until: request.until,
    disks: source.disks.map(({ label, capacityBytes, transport }) => ({
      label,
      bytes: capacityBytes,
      ...(transport === undefined ? {} : { transport }),
      ...(shown === undefined ? {} : { nbdUri: shown.uris.get(label), ...fileOf(shown, label) }),
      ...(exported === undefined ? {} : { exported: join(path, exported.descriptors.get(label) ?? '') }),
    })),
    volumes: volumes?.volumes ?? [],
    files: exported?.files ?? [],
    notMounted: [
      ...source.notProtected.map(({ disk, reason }) => ({ what: disk, reason })),
      ...(shown?.notShown ?? []),
      ...(volumes?.notMounted ?? []),
    ],
    consistency: source.level,
    consistencyReason: source.reason,
    ...(source.scripts === undefined ? {} : { guestScripts: await keepScripts(path, source.scripts) }),
    warnings: [...warnings, ...(volumes?.notes ?? [])],
  }
  await writeFileAtomic(join(ownDirectory(path), 'manifest.json'), `${JSON.stringify(mounted, undefined, 2)}\n`)
  if (request.reader !== undefined) await letRead(request.reader, directory.ref, shown !== undefined, exported)
  throwIfAborted(preparing)
  // Asked once more, because it is looked at only now and then: a lease that nobody waits for any more would be nobody's.
  if (caller !== undefined && !(await deps.isAlive(caller))) throw ownerGone(caller)
  await recordShown(claims, directory, { ready: true })
  forOwner?.[Symbol.dispose]()
  forCaller?.[Symbol.dispose]()
  inTime[Symbol.dispose]()
  await options.onReady(mounted)

  const end = await holdLease({
    clock,
    untilMs,
    owner,
    isAlive: deps.isAlive,
    idleMs: request.idleMs,
    lastUsedMs: () => latest(shown?.lastUsedMs, volumes?.lastUsedMs),
    isOpen: () => deps.isOpen(path),
    signal: options.signal,
    broken: onlyFiles ? undefined : source.broken,
    lost: async () => (await shown?.lost()) ?? (await volumes?.lost()),
  })
  log.info('a lease ends', { lease: claims.job, ...end })
  await opened.disposeAsync()
  return { end, disks: [...(shown?.uses ?? []), ...(volumes?.uses ?? [])] }
}

function openSource(claims: Claims, from: MountRequest['from'], wish: Parameters<typeof openSnapshot>[2]): Promise<MountSource> {
  if (from.kind === 'vm') return openSnapshot(claims, from, wish)
  return from.kind === 'point' ? openPoint(claims, from, wish) : openVmdk(from, wish)
}

const fileOf = ({ files }: ShownDisks, label: string): { readonly file?: string } => {
  const file = files.get(label)
  return file === undefined ? {} : { file }
}

/** Everything the scripts wrote goes beside the manifest, which only says how they ended. */
async function keepScripts(path: string, said: ScriptsSaid): Promise<NonNullable<Mounted['guestScripts']>> {
  const { name, body } = scriptsFile(said)
  await writeFileWhole(join(ownDirectory(path), name), body)
  return {
    policy: said.policy,
    file: relative(path, join(ownDirectory(path), name)),
    runs: said.runs.map(({ script, argument, exitCode, timedOut, error, ms }) => ({ script, argument, exitCode, timedOut, error, ms })),
  }
}

function latest(...moments: readonly (number | undefined)[]): number | undefined {
  const known = moments.filter((each) => each !== undefined)
  return known.length === 0 ? undefined : Math.max(...known)
}

const ownerGone = ({ pid }: { readonly pid: number }): AgentError =>
  new AgentError('CANCELED', `The mount was given up, because process ${pid}, which it was for, has ended.`)

const tooLate = ({ maxHoldMs }: MountRequest): AgentError =>
  new AgentError('CANCELED', `The mount was given up, because it was not ready within the ${maxHoldMs / 1000} s for which it was wanted.`, {
    next: 'Give a longer --max-hold, or look in the log for what took so long.',
  })
