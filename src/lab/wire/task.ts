import type { Clock } from '../../core/index.ts'
import type { ChangeFeed } from './change-feed.ts'
import { notFound, toVimFault, VimFault } from './fault.ts'
import type { ManagedObject } from './managed-object.ts'
import type { LabSession } from './session.ts'
import { labRef, type LabObject, type LabRef, type LabValue } from './value.ts'

/** What the work of a task is given. */
export type TaskHandle = {
  readonly ref: LabRef
  /** Per cent, 0–100; wakes waiters. */
  progress(percent: number): void
  /** True once CancelTask was called on a cancelable task; `signal` is aborted at the same moment. */
  readonly cancelled: boolean
  readonly signal: AbortSignal
}
export type TaskOptions = {
  readonly cancelable?: boolean
  /** Defaults to `<type of entity>.<method without _Task, first letter small>`, e.g. `VirtualMachine.createSnapshot`. */
  readonly descriptionId?: string
  /** Milliseconds in the queue before the work starts. */
  readonly queueMs?: number | undefined
}
export type TasksOptions = {
  readonly clock: Clock
  readonly feed: ChangeFeed
  readonly kind: 'vcenter' | 'esxi'
  /** Name shown as TaskInfo.entityName. */
  readonly entityName: (entity: LabRef) => string | undefined
  /** TaskManager's reference, whose recentTask changes. */
  readonly taskManager: LabRef
}

type Info = {
  key: string
  name: string
  descriptionId: string
  entity: LabRef
  entityName: string | undefined
  state: 'queued' | 'running' | 'success' | 'error'
  cancelled: boolean
  cancelable: boolean
  error: VimFault | undefined
  result: LabValue
  progress: number | undefined
  userName: string
  queueTime: Date
  startTime: Date | undefined
  completeTime: Date | undefined
  endedAt: number | undefined
  eventChainId: number
  description: LabObject | undefined
}
type Task = ManagedObject & { readonly info: Info; readonly cancel: AbortController; done: Promise<void> }

/** TaskInfo.entity is declared ManagedEntity; clients refuse other references (a file manager, a snapshot) there. */
const ENTITIES = new Set([
  'Folder',
  'StoragePod',
  'Datacenter',
  'ComputeResource',
  'ClusterComputeResource',
  'ResourcePool',
  'VirtualApp',
  'HostSystem',
  'VirtualMachine',
  'Datastore',
  'Network',
  'OpaqueNetwork',
  'DistributedVirtualPortgroup',
  'DistributedVirtualSwitch',
  'VmwareDistributedVirtualSwitch',
])

const NUMBERS_FROM = Date.UTC(2026, 0, 1)
/** TaskInfo.eventChainId, an xsd:int, carries the number too. */
const MAX_NUMBER = 2_000_000_000

/** Completed tasks are gone after this long, as on real servers. */
const KEEP_MS = 10 * 60_000

/** Runs long operations and shows them as Task objects. `recent(entity)` is a VM's recentTask. */
export class Tasks {
  readonly #options: TasksOptions
  readonly #tasks = new Map<string, Task>()
  readonly #listeners = new Set<(task: LabRef) => void>()
  readonly #forgotten = new Set<Promise<void>>()
  #next: number

  constructor(options: TasksOptions) {
    this.#options = Object.freeze({ ...options })
    // Numbers go on rising over a restart of the lab, so that a client's old reference never names another task.
    this.#next = (Math.floor((options.clock.now().getTime() - NUMBERS_FROM) / 100) % MAX_NUMBER) + 1
  }

  /**
   * Starts `work` and returns the Task's reference at once; the task is running before this returns, unless it is queued first. A thrown VimFault becomes info.error, the
   * returned value info.result. `name` is the method's wire name.
   */
  run(
    name: string,
    entity: LabRef,
    session: Pick<LabSession, 'userName'>,
    work: (task: TaskHandle) => Promise<LabValue | void> | LabValue | void,
    options: TaskOptions = {},
  ): LabRef {
    const task = this.#create(name, entity, session.userName, options)
    const changed = (): void => this.#options.feed.changed(task.ref, 'info')
    const start = (): void => {
      task.info.state = 'running'
      task.info.startTime = this.#options.clock.now()
      changed()
    }
    const { queueMs = 0 } = options
    if (queueMs === 0) start()
    this.#tell(task.ref)
    const handle: TaskHandle = {
      ref: task.ref,
      progress: (percent) => {
        if (task.info.state !== 'running' || task.info.progress === percent) return
        task.info.progress = Math.max(0, Math.min(100, Math.round(percent)))
        changed()
      },
      get cancelled() {
        return task.cancel.signal.aborted
      },
      signal: task.cancel.signal,
    }
    const finish = (change: () => void): void => {
      change()
      task.info.completeTime = this.#options.clock.now()
      task.info.endedAt = this.#options.clock.monotonicMs()
      changed()
      this.#listsChanged(entity)
      this.#tell(task.ref)
    }
    const done = (async () => {
      if (queueMs > 0) {
        await this.#options.clock.sleep(queueMs)
        start()
      }
      return work(handle)
    })().then(
      (result) =>
        finish(() => {
          task.info.state = 'success'
          task.info.result = result ?? undefined
          task.info.progress = undefined
        }),
      (error: unknown) =>
        finish(() => {
          const requested = task.cancel.signal.aborted && !(error instanceof VimFault)
          task.info.state = 'error'
          task.info.error = requested ? new VimFault('RequestCanceled', {}, 'The task was canceled by a user.') : toVimFault(error)
          task.info.progress = undefined
        }),
    )
    task.done = done
    this.#listsChanged(entity)
    return task.ref
  }

  /** The Task object; undefined when unknown or completed more than ten minutes ago. */
  get(ref: LabRef): ManagedObject | undefined {
    this.#purge()
    return this.#tasks.get(ref.value)
  }

  /** Drops a task from every list while its work goes on. */
  forget(ref: LabRef): void {
    const task = this.#tasks.get(ref.value)
    if (task === undefined) return
    this.#tasks.delete(ref.value)
    this.#forgotten.add(task.done)
    // `done` never rejects: the outcome of the work is in the task's information.
    void task.done.then(() => this.#forgotten.delete(task.done))
    this.#listsChanged(task.info.entity)
  }

  /** Calls when a task has started and when it has ended, after its information changed. */
  subscribe(listener: (task: LabRef) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** Tasks of one entity, or all, oldest first: VirtualMachine.recentTask, TaskManager.recentTask. */
  recent(entity?: LabRef): LabRef[] {
    this.#purge()
    return [...this.#tasks.values()]
      .filter((task) => entity === undefined || task.info.entity.value === entity.value)
      .map((task) => task.ref)
  }

  /** TaskInfo objects of tasks that are not finished, for `vcb lab state`. */
  running(): LabObject[] {
    return [...this.#tasks.values()].filter((task) => isOpen(task.info)).map((task) => taskInfo(task))
  }

  /** Fault NotSupported when the task cannot be canceled, InvalidState when it is over. */
  cancel(ref: LabRef): void {
    const task = this.#known(ref)
    if (!task.info.cancelable) throw new VimFault('NotSupported', {}, 'The task cannot be canceled.')
    if (!isOpen(task.info)) throw new VimFault('InvalidState', {}, 'The task has already ended.')
    task.info.cancelled = true
    task.cancel.abort(new Error('canceled'))
    this.#options.feed.changed(ref, 'info')
  }

  /** TaskManager.CreateTask: a task another program drives with SetTaskState and UpdateProgress. Returns its TaskInfo. */
  createForClient(taskTypeId: string, entity: LabRef, userName: string, cancelable: boolean): LabObject {
    const task = this.#create('', entity, userName, { cancelable, descriptionId: taskTypeId })
    this.#listsChanged(entity)
    this.#tell(task.ref)
    return taskInfo(task)
  }

  setState(ref: LabRef, state: string, result: LabValue, fault: LabObject | undefined): void {
    const { info } = this.#known(ref)
    if (!isOpen(info)) throw new VimFault('InvalidState', {}, 'The task has already ended.')
    if (state !== 'queued' && state !== 'running' && state !== 'success' && state !== 'error')
      throw new VimFault('InvalidArgument', { invalidProperty: 'state' })
    info.state = state
    if (state === 'running') info.startTime ??= this.#options.clock.now()
    if (!isOpen(info)) {
      info.completeTime = this.#options.clock.now()
      info.endedAt = this.#options.clock.monotonicMs()
      info.progress = undefined
      info.result = state === 'success' ? result : undefined
      info.error = state === 'error' ? localizedFault(fault) : undefined
    }
    this.#options.feed.changed(ref, 'info')
  }

  updateProgress(ref: LabRef, percent: number): void {
    const { info } = this.#known(ref)
    if (info.state !== 'running') throw new VimFault('InvalidState', {}, 'The task is not running.')
    info.progress = percent
    this.#options.feed.changed(ref, 'info')
  }

  setDescription(ref: LabRef, description: LabObject): void {
    this.#known(ref).info.description = description
    this.#options.feed.changed(ref, 'info')
  }

  /** Resolves when every task that is running now has ended; the lab's shutdown calls it once. */
  async settled(): Promise<void> {
    await Promise.all([...[...this.#tasks.values()].map((task) => task.done), ...this.#forgotten])
  }

  #create(name: string, entity: LabRef, userName: string, options: TaskOptions): Task {
    const number = this.#next++
    const method = name.replace(/_Task$/, '')
    const descriptionId = options.descriptionId ?? `${entity.$ref}.${method.charAt(0).toLowerCase()}${method.slice(1)}`
    const key = this.#options.kind === 'vcenter' ? `task-${number}` : `haTask-${entity.value}-vim.${descriptionId}-${number}`
    const info: Info = {
      key,
      name,
      descriptionId,
      entity,
      entityName: this.#options.entityName(entity),
      state: 'queued',
      cancelled: false,
      cancelable: options.cancelable ?? false,
      error: undefined,
      result: undefined,
      progress: undefined,
      userName,
      queueTime: this.#options.clock.now(),
      startTime: undefined,
      completeTime: undefined,
      endedAt: undefined,
      eventChainId: number,
      description: undefined,
    }
    const task: Task = {
      ref: labRef('Task', key),
      info,
      cancel: new AbortController(),
      done: Promise.resolve(),
      property: (property) => (property === 'info' ? taskInfo(task) : undefined),
    }
    this.#tasks.set(key, task)
    return task
  }

  #tell(ref: LabRef): void {
    for (const listener of this.#listeners) listener(ref)
  }

  #known(ref: LabRef): Task {
    const task = this.#tasks.get(ref.value)
    if (task === undefined) throw notFound(ref)
    return task
  }

  #listsChanged(entity: LabRef): void {
    this.#options.feed.changed(entity, 'recentTask')
    this.#options.feed.changed(this.#options.taskManager, 'recentTask')
  }

  #purge(): void {
    const now = this.#options.clock.monotonicMs()
    for (const [key, task] of this.#tasks) if (task.info.endedAt !== undefined && now - task.info.endedAt > KEEP_MS) this.#tasks.delete(key)
  }
}

const isOpen = (info: Info): boolean => info.state === 'queued' || info.state === 'running'

function localizedFault(fault: LabObject | undefined): VimFault {
  const inner = fault?.fault
  if (typeof inner === 'object' && inner !== null && '$type' in inner && typeof inner.$type === 'string') {
    const { $type, ...fields } = inner
    return new VimFault($type, fields, typeof fault?.localizedMessage === 'string' ? fault.localizedMessage : '')
  }
  return new VimFault('SystemError', { reason: 'no fault given' })
}

function taskInfo({ ref, info }: Pick<Task, 'ref' | 'info'>): LabObject {
  return {
    $type: 'TaskInfo',
    key: info.key,
    task: ref,
    description: info.description,
    name: info.name === '' ? undefined : info.name,
    descriptionId: info.descriptionId,
    entity: ENTITIES.has(info.entity.$ref) ? info.entity : undefined,
    entityName: ENTITIES.has(info.entity.$ref) ? info.entityName : undefined,
    state: info.state,
    cancelled: info.cancelled,
    cancelable: info.cancelable,
    error: info.error?.localized,
    result: info.result,
    progress: info.progress,
    reason: { $type: 'TaskReasonUser', userName: info.userName },
    queueTime: info.queueTime,
    startTime: info.startTime,
    completeTime: info.completeTime,
    eventChainId: info.eventChainId,
  }
}
