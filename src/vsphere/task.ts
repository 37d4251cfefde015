import { type Abortable, AgentError, isAgentError, type MoRef, throwIfAborted } from '../core/index.ts'
import { faultError } from './fault-error.ts'
import { filterSpec, retrieveMany } from './property-collector.ts'
import { decodeLocalizedFault } from './soap.ts'
import { data, type VimFields } from './vim-data.ts'
import { faultOf, isFault, type VimFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

export type TaskState = {
  readonly task: MoRef
  /** `VirtualMachine.createSnapshot` */
  readonly descriptionId: string
  readonly state: 'queued' | 'running' | 'success' | 'error'
  /** Per cent, while running. */
  readonly progress: number | undefined
}

export type TaskOptions = CallOptions & {
  /** Called once, as soon as the server has named the task: the place to write it down. */
  readonly onStarted?: ((task: MoRef) => void | Promise<void>) | undefined
  /** Per cent. */
  readonly onProgress?: ((percent: number) => void) | undefined
  /** An abort ends the waiting only; the task is left to run. For tasks that undo something. */
  readonly leave?: boolean | undefined
}

/** How long a canceled task may take to end, ms. */
const CANCEL_MS = 60_000
/** One WaitForUpdatesEx holds for so long; it also keeps the session alive. */
const WAIT_SECONDS = 30
/** A server that cannot be reached for so long has lost us; the task goes on without us. ms */
const LOST_AFTER_MS = 10 * 60_000
/** How long the answer to a call that starts a task is still awaited after an abort: without it nobody knows whether there is a task. ms */
const ANSWER_MS = 10_000
/** How long other people's tasks on a VM are waited for. ms */
const TASKS_MS = 5 * 60_000
const PATHS = ['info.state', 'info.progress', 'info.result', 'info.error'] as const

/**
 * Starts a `…_Task` method and waits for its end: the result element, when the task has one. An abort cancels the task where the server
 * can do that (unless `leave`), and returns without waiting for it: look with `waitTasksOf` before undoing anything.
 */
export async function runTask(
  vsphere: Vsphere,
  method: string,
  self: MoRef,
  args: VimFields = {},
  options: TaskOptions = {},
): Promise<VimNode | undefined> {
  throwIfAborted(options)
  const [answer] = await answered(vsphere, options, (signal) => vsphere.call(method, self, args, { ...options, signal }))
  const task = answer?.asRef()
  if (task === undefined) throw new AgentError('INTEGRITY', `${vsphere.host} started no task for ${method}.`, { subject: options.subject })
  await options.onStarted?.(task)
  try {
    return await finish(vsphere, task, method, options)
  } catch (error) {
    if (options.signal?.aborted === true && options.leave !== true) await cancel(vsphere, task)
    throw error
  }
}

/** A call that starts something is not cut off by the abort at once, so that what it started gets known and can be canceled. */
async function answered<T>(vsphere: Vsphere, { signal }: Abortable, call: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
  if (signal === undefined) return call(undefined)
  const late = new AbortController()
  const ended = new AbortController()
  const onAbort = (): void => {
    vsphere.clock.sleep(ANSWER_MS, { signal: ended.signal }).then(
      () => late.abort(signal.reason),
      () => undefined,
    )
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await call(late.signal)
  } finally {
    signal.removeEventListener('abort', onAbort)
    ended.abort()
  }
}

/**
 * Waits for a task started earlier; survives cut connections and a new login. UNAVAILABLE when the server no longer knows the task (some ten
 * minutes after its end): its outcome must then be read from the object.
 */
export function waitTask(vsphere: Vsphere, task: MoRef, options: TaskOptions = {}): Promise<VimNode | undefined> {
  return finish(vsphere, task, `The task ${task.value}`, options)
}

async function finish(vsphere: Vsphere, task: MoRef, method: string, options: TaskOptions): Promise<VimNode | undefined> {
  const ended = await untilEnd(vsphere, task, options)
  if (ended.fault !== undefined) throw faultError(ended.fault, method, vsphere.host, options.subject)
  return ended.result
}

type Ended = { readonly fault?: VimFault | undefined; readonly result?: VimNode | undefined }

/** `until`: monotonic moment after which nothing more is awaited; the result is then empty. */
async function untilEnd(vsphere: Vsphere, task: MoRef, options: TaskOptions, until = Number.POSITIVE_INFINITY): Promise<Ended> {
  let lastHeard = vsphere.clock.monotonicMs()
  const heard = (): void => {
    lastHeard = vsphere.clock.monotonicMs()
  }
  for (;;) {
    try {
      return await watch(vsphere, task, options, heard, until)
    } catch (error) {
      if (options.signal?.aborted === true || isAgentError(error, 'CANCELED')) throw error
      if (!isLost(error) || vsphere.clock.monotonicMs() - lastHeard > LOST_AFTER_MS) throw error
      vsphere.log.debug('waiting for a task again', { host: vsphere.host, task: task.value, error: message(error) })
      await vsphere.clock.sleep(1000, options)
      if (isFault(error, 'ManagedObjectNotFound')) await mustExist(vsphere, task, options)
    }
  }
}

/** Errors that say something about the way we watch, not about the task: a cut connection, a collector of a session that is gone. */
function isLost(error: unknown): boolean {
  if (isFault(error, 'ManagedObjectNotFound', 'InvalidCollectorVersion', 'RequestCanceled', 'NotAuthenticated')) return true
  if (faultOf(error) !== undefined) return false
  return isAgentError(error, 'INTEGRITY') || (isAgentError(error, 'UNAVAILABLE') && error.retry === 'now')
}

async function watch(vsphere: Vsphere, task: MoRef, options: TaskOptions, heard: () => void, until: number): Promise<Ended> {
  const [made] = await vsphere.call('CreatePropertyCollector', vsphere.service('propertyCollector'), {}, options)
  const collector = made?.asRef()
  if (collector === undefined) throw new AgentError('INTEGRITY', `${vsphere.host} made no property collector.`)
  try {
    const spec = filterSpec('Task', PATHS, [data({ obj: task, skip: false })])
    await vsphere.call('CreateFilter', collector, { spec, partialUpdates: false }, options)
    return await follow(vsphere, collector, task, options, heard, until)
  } finally {
    await vsphere
      .call('DestroyPropertyCollector', collector)
      .catch((error: unknown) => vsphere.log.debug('a collector was not freed', { host: vsphere.host, error: message(error) }))
  }
}

async function follow(
  vsphere: Vsphere,
  collector: MoRef,
  task: MoRef,
  options: TaskOptions,
  heard: () => void,
  until: number,
): Promise<Ended> {
  const seen = new Map<string, VimNode>()
  let version: string | undefined
  for (;;) {
    const seconds = Math.ceil((until - vsphere.clock.monotonicMs()) / 1000)
    if (seconds <= 0) return {}
    const [update] = await vsphere.call(
      'WaitForUpdatesEx',
      collector,
      { version: version ?? '', options: data({ maxWaitSeconds: Math.min(WAIT_SECONDS, seconds) }) },
      { ...options, timeoutMs: (WAIT_SECONDS + 60) * 1000 },
    )
    heard()
    // No update set: the wait ran out and nothing has changed.
    if (update === undefined) continue
    version = update.string('version') ?? version
    for (const object of update.all('filterSet').flatMap((set) => set.all('objectSet'))) {
      if (object.string('kind') === 'leave') throw unknownTask(vsphere, task)
      for (const change of object.all('changeSet')) note(seen, change)
    }
    if (update.all('filterSet').some((set) => set.all('missingSet').length > 0)) throw unknownTask(vsphere, task)
    const state = seen.get('info.state')?.text
    if (state === 'success') return { result: seen.get('info.result') }
    if (state === 'error') {
      const error = seen.get('info.error')
      // The error may come in the next piece of a truncated update.
      if (error !== undefined || update.boolean('truncated') !== true) return { fault: decodeLocalizedFault(error ?? update) }
    }
    const progress = seen.get('info.progress')
    if (progress !== undefined) options.onProgress?.(progress.asNumber())
  }
}

/** `assign` without a value means that the property became unset. */
function note(seen: Map<string, VimNode>, change: VimNode): void {
  const name = change.string('name') ?? ''
  const value = change.get('val')
  if (value === undefined) seen.delete(name)
  else seen.set(name, value)
}

async function mustExist(vsphere: Vsphere, task: MoRef, options: TaskOptions): Promise<void> {
  const found = await retrieveMany(vsphere, [task], ['info.state'], { signal: options.signal })
  if (found.length === 0) throw unknownTask(vsphere, task)
}

const unknownTask = (vsphere: Vsphere, task: MoRef): AgentError =>
  new AgentError('UNAVAILABLE', `${vsphere.host} no longer knows the task ${task.value}; what became of it is not known.`, {
    subject: task.value,
    next: 'Run the command again; the state is read from the VM then.',
    retry: 'later',
  })

async function cancel(vsphere: Vsphere, task: MoRef): Promise<void> {
  try {
    await vsphere.call('CancelTask', task)
  } catch (error) {
    // Most tasks on snapshots cannot be canceled, and a task may have ended meanwhile.
    vsphere.log.debug('the task was not canceled', { host: vsphere.host, task: task.value, error: message(error) })
  }
}

/** Recent tasks of a VM, running and finished; empty when the VM is gone. */
export async function tasksOf(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<readonly TaskState[]> {
  const [found] = await retrieveMany(vsphere, [vm], ['recentTask'], options)
  const tasks = (found?.props.get('recentTask')?.items() ?? []).map((item) => item.asRef()).filter((ref) => ref !== undefined)
  const states = await retrieveMany(vsphere, tasks, ['info.state', 'info.progress', 'info.descriptionId'], options)
  return states.map(({ obj, props }) => ({
    task: obj,
    descriptionId: props.get('info.descriptionId')?.text ?? '',
    state: parseState(props.get('info.state')?.text),
    progress: props.get('info.progress')?.asNumber(),
  }))
}

/**
 * Cancels every task that runs on the VM, where the server can do that, and waits up to a minute for the end of each; also when the VM goes with
 * it. What still runs then is `waitTasksOf`'s to name.
 */
export async function cancelTasksOf(vsphere: Vsphere, vm: MoRef, options?: CallOptions): Promise<void> {
  const running = (await tasksOf(vsphere, vm, options)).filter(({ state }) => state === 'queued' || state === 'running')
  for (const { task } of running) await cancel(vsphere, task)
  const until = vsphere.clock.monotonicMs() + CANCEL_MS
  for (const { task } of running) await ended(vsphere, task, options, until)
}

/** Waits for the end of a task, whatever became of it; a task that the server forgets while it is watched has ended as far as can be told. */
async function ended(vsphere: Vsphere, task: MoRef, options: CallOptions | undefined, until: number): Promise<void> {
  try {
    await untilEnd(vsphere, task, { signal: options?.signal }, until)
  } catch (error) {
    if (!isAgentError(error, 'UNAVAILABLE') || error.retry !== 'later') throw error
  }
}

function parseState(text: string | undefined): TaskState['state'] {
  if (text === 'queued' || text === 'running' || text === 'success' || text === 'error') return text
  throw new AgentError('INTEGRITY', `The server gave the task state ${JSON.stringify(text ?? null)}, which is not known.`)
}

/**
 * Waits until no task runs on the VM any more, whatever became of them; cancels none. CONFLICT (`later`) naming the task when one still runs
 * after `forMs`, 5 minutes when absent.
 */
export async function waitTasksOf(
  vsphere: Vsphere,
  vm: MoRef,
  options?: CallOptions & { readonly forMs?: number | undefined },
): Promise<void> {
  const forMs = options?.forMs ?? TASKS_MS
  const until = vsphere.clock.monotonicMs() + forMs
  for (;;) {
    const running = (await tasksOf(vsphere, vm, options)).find(({ state }) => state === 'queued' || state === 'running')
    if (running === undefined) return
    const left = until - vsphere.clock.monotonicMs()
    if (left <= 0) throw stillRunning(vsphere, vm, running, options)
    vsphere.log.info('waiting for a task on the VM', { vm: options?.subject ?? vm.value, task: running.descriptionId })
    await ended(vsphere, running.task, options, until)
  }
}

/** Calls that make a VM, as `TaskInfo.descriptionId` ends on them. */
const MAKES_A_VM = /(ImportVAppLRO|[rR]egisterVM(_Task)?|[cC]reateVM(_Task)?)$/
/** Clocks of proxy and server may differ by so much. ms */
const SKEW_MS = 10 * 60_000

/** Whether a task of this session's user that was started at `since` or later runs and may still make a VM. */
export async function vmMakingTaskRuns(vsphere: Vsphere, since: Date, options?: CallOptions): Promise<boolean> {
  const [found] = await retrieveMany(vsphere, [vsphere.service('taskManager')], ['recentTask'], options)
  const tasks = (found?.props.get('recentTask')?.items() ?? []).map((item) => item.asRef()).filter((ref) => ref !== undefined)
  const paths = ['info.state', 'info.descriptionId', 'info.queueTime', 'info.reason']
  return (await retrieveMany(vsphere, tasks, paths, options)).some(({ props }) => {
    const state = parseState(props.get('info.state')?.text)
    const user = props.get('info.reason')?.get('userName')?.text
    const queued = Date.parse(props.get('info.queueTime')?.text ?? '')
    return (
      (state === 'queued' || state === 'running') &&
      MAKES_A_VM.test(props.get('info.descriptionId')?.text ?? '') &&
      (user === undefined || user.toLowerCase() === vsphere.user.toLowerCase()) &&
      !(queued < since.getTime() - SKEW_MS)
    )
  })
}

const stillRunning = (vsphere: Vsphere, vm: MoRef, { descriptionId, state }: TaskState, options?: CallOptions): AgentError =>
  new AgentError('CONFLICT', `A task (${descriptionId}) on ${options?.subject ?? vm.value} is still ${state} at ${vsphere.host}.`, {
    subject: options?.subject ?? vm.value,
    next: 'Wait until it has ended, or cancel it in vCenter; then run "vcb recover".',
    retry: 'later',
  })

/** The reference a task gave as its result. INTEGRITY when it gave none. */
export function resultRef(result: VimNode | undefined, what: string): MoRef {
  const ref = result?.asRef()
  if (ref === undefined) throw new AgentError('INTEGRITY', `The task ended without naming the ${what} it made.`)
  return ref
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error))
