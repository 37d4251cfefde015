import { basename, resolve } from 'node:path'
import { AgentError, type FileReader, type PointId, type QuiescePolicy, type VmRef } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import {
  mountDirectoryPath,
  mountSession,
  type Mounted,
  type MountResult,
  type MountType,
  type PointToMount,
  type VmdkToMount,
  type VmToMount,
} from '../flow/index.ts'
import { selectVms } from '../inventory/index.ts'
import type { Claims, JobOutcome, LeftError, ProcessIdentity } from '../journal/index.ts'
import { createSnapshots, createSpaceGuard, noSpaceGuard } from '../snapshot/index.ts'
import type { Agent } from './agent.ts'
import { fileReader } from './file-reader.ts'
import { BY_UNMOUNT, type LeaseArgs, type LeaseFacts, MOUNT } from './lease.ts'
import { holdersOf } from './state-holders.ts'
import { createTransports } from './transports.ts'
import { noticeWaits } from './wait-notice.ts'

export type MountRunRequest = {
  /** A selection that means one VM, the id of a restore point, or the path of a VMDK here. */
  readonly from: { readonly expression: string } | { readonly point: string } | { readonly vmdk: string }
  readonly directory: string
  readonly types: readonly MountType[]
  /** Names of a user and a group that may read disks and exported files, too. */
  readonly allow: { readonly user?: string | undefined; readonly group?: string | undefined }
  readonly exportFormat: ExportFormat
  readonly quiesce: QuiescePolicy
  /** False: no guest scripts; `require` or `try`: instead of their own policy. */
  readonly guestScripts?: boolean | 'require' | 'try' | undefined
  readonly excludeDisks: readonly string[]
  readonly maxHoldMs: number
  readonly idleMs: number | undefined
  readonly waitMs: number
  readonly ownerPid: number | undefined
  /** The process that waits until everything is there. */
  readonly callerPid: number | undefined
  /** What the product calls its job; shown in lists. */
  readonly job: string | undefined
  /** Where this process logs; shown in lists. */
  readonly log: string | undefined
  readonly onReady: (mounted: Mounted) => Promise<void>
}

/** What a lease came to; `stillHeld`: it is over, but something of it could not be released yet. */
export type MountRun = MountResult & { readonly facts: LeaseFacts; readonly stillHeld: LeftError | undefined }

/** Holds a lease in this process, from its first step until it has ended and all of it is released. */
export async function runMount(agent: Agent, request: MountRunRequest): Promise<MountRun> {
  const { clock, log, processes } = agent
  const directory = await mountDirectoryPath(request.directory)
  const reader = await readerOf(agent, request)
  const owner = await processOf(agent, request.ownerPid)
  const caller = await processOf(agent, request.callerPid)
  await agent.recoverFirst()
  await using stack = new AsyncDisposableStack()
  const from = await sourceOf(agent, request, stack)
  const args: LeaseArgs = {
    vm: from.vm,
    ...(from.kind === 'point' ? { point: from.point } : {}),
    directory,
    types: [...request.types],
    until: new Date(clock.now().getTime() + request.maxHoldMs).toISOString(),
    ...(request.idleMs === undefined ? {} : { idleMs: request.idleMs }),
    ...(owner === undefined ? {} : { owner }),
    ...(request.job === undefined ? {} : { job: request.job }),
    ...(request.log === undefined ? {} : { log: request.log }),
  }
  let stillHeld: LeftError | undefined
  const { result, facts } = await agent.job(
    MOUNT,
    args,
    async (claims, signal) => {
      const { types, exportFormat, maxHoldMs, idleMs } = request
      const ended = await mountSession(
        { clock, log, isAlive: (one) => processes.isAlive(one), isOpen: async (path) => (await holdersOf(path)).length > 0 },
        claims,
        { from, directory, types, exportFormat, reader, maxHoldMs, until: args.until, owner, idleMs, caller },
        { signal, onReady: request.onReady },
      )
      return { result: ended, facts: await factsFor(agent, claims, ended) }
    },
    {
      outcomeOf: (done) => outcomeOf(done.facts),
      onLeft: (left) => {
        stillHeld ??= left
      },
    },
  )
  return { ...result, facts, stillHeld }
}

/** Who else may read. USAGE together with file systems, whose files belong to users of the guest. */
async function readerOf({ clock }: Agent, { allow, types }: MountRunRequest): Promise<FileReader | undefined> {
  const reader = await fileReader(allow, { clock })
  if (reader === undefined || !types.includes('file')) return reader
  throw new AgentError('USAGE', 'The files of a guest keep its own owners, so --type file cannot be shown to one user of this machine.', {
    next: 'Read them as root, or mount with --type disk or export.',
  })
}

/** A process as it is now. USAGE when there is none: a lease for it would be over at once. */
async function processOf({ processes }: Agent, pid: number | undefined): Promise<ProcessIdentity | undefined> {
  if (pid === undefined) return undefined
  const found = await processes.identify(pid)
  if (found !== undefined) return found
  throw new AgentError('USAGE', `There is no process ${pid}, so nothing can be mounted for it.`, {
    subject: String(pid),
    next: 'Give the pid of a process that lives as long as the lease is wanted.',
  })
}

function sourceOf(
  agent: Agent,
  request: MountRunRequest,
  stack: AsyncDisposableStack,
): Promise<VmToMount | VmdkToMount | (PointToMount & { readonly vm: VmRef })> {
  const { from } = request
  if ('point' in from) return pointOf(agent, request, from.point)
  return 'vmdk' in from ? vmdkOf(from.vmdk) : vmOf(agent, request, from.expression, stack)
}

async function vmdkOf(given: string): Promise<VmdkToMount> {
  const path = resolve(given)
  const vm: VmRef = { moref: '', name: basename(path).replace(/\.vmdk$/i, ''), instanceUuid: '', biosUuid: '', vcenterUuid: '', path }
  return { kind: 'vmdk', path, vm }
}

async function pointOf(agent: Agent, { excludeDisks }: MountRunRequest, id: string): Promise<PointToMount & { readonly vm: VmRef }> {
  const store = await agent.points()
  await using reader = await store.open(id, { signal: agent.signal })
  return { kind: 'point', point: reader.id satisfies PointId, store, excludeDisks, vm: reader.manifest.vm }
}

async function vmOf(agent: Agent, request: MountRunRequest, expression: string, stack: AsyncDisposableStack): Promise<VmToMount> {
  const { clock, log, config, signal } = agent
  const vsphere = await agent.vsphere()
  const [vm, ...more] = await selectVms(vsphere, [expression], { bulk: false, signal })
  if (vm === undefined || more.length > 0) {
    throw new AgentError('USAGE', `"${expression}" names ${1 + more.length} VMs, and one is mounted at a time.`, {
      subject: expression,
      next: 'Name one of them; "vcb vms" lists them.',
    })
  }
  const spaceGuard = stack.use(config.space.guard ? createSpaceGuard({ vsphere, clock, log, ...config.space }) : noSpaceGuard())
  const onWait = noticeWaits({ clock, log, tell: (wait) => log.info('a mount waits', { vm: vm.name, wait }) })
  return {
    kind: 'vm',
    vm,
    deps: {
      vsphere,
      snapshots: createSnapshots(vsphere, agent.snapshotChanges(vsphere)),
      transports: createTransports(agent, vsphere),
      limits: stack.use(agent.limits.of(vm.name, { onWait })),
      locks: agent.locks,
      scripts: agent.scripts,
      marks: agent.marks,
      reopen: config.resume,
      space: stack.use(spaceGuard.watch(vm)),
      clock,
      log,
    },
    quiesce: request.quiesce,
    freezeLimitMs: config.freezeLimitMs,
    windowsQuiesce: config.windowsQuiesce,
    guestScripts: request.guestScripts,
    excludeDisks: request.excludeDisks,
    waitMs: request.waitMs,
  }
}

/** Why it ended, with who asked for it as the journal has it. */
async function factsFor({ journal }: Agent, claims: Claims, { end, disks }: MountResult): Promise<LeaseFacts> {
  const asked = (await journal.unfinished()).find((job) => job.id === claims.job)?.cancel
  const unmounted = end.by === 'request' && asked?.by.startsWith(BY_UNMOUNT) === true
  return { endedBy: end.by, unmounted, reason: end.reason, disks: [...disks] }
}

function outcomeOf(facts: LeaseFacts): JobOutcome {
  const broken = facts.disks.find(({ readErrors }) => readErrors > 0)
  if (broken === undefined) return { result: 'succeeded', reason: facts.unmounted ? undefined : facts.reason, facts }
  return { result: 'failed', reason: `A reader of ${broken.label} got an error instead of data: ${broken.readError ?? 'unknown'}`, facts }
}
