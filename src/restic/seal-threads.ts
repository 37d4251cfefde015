import { Worker } from 'node:worker_threads'
import { AgentError } from '../core/index.ts'
import type { FilledPack } from './pack-digests.ts'
import {
  DIGEST,
  HASH,
  type OPEN,
  type OpenInto,
  type SEAL,
  STORE,
  type ReplyMessage,
  type SealMemory,
  type SealWorkerData,
  type TaskMessage,
  type ThreadMessage,
} from './seal-tasks.ts'
import type { SealKey } from './sealing.ts'
import { turnsMemory } from './write-turns.ts'

/** Tasks handed to a worker ahead of its replies, so that it need not wait for the main thread. */
const AHEAD = 2

/** What a thread is asked: of which slot, how many blocks, the level of zstd, and what blocks are opened into when not into their slot; or of which packs. */
export type SealTask =
  | {
      readonly kind: typeof HASH | typeof SEAL | typeof OPEN | typeof STORE
      readonly target: number
      readonly length: number
      readonly level?: number | undefined
      readonly into?: OpenInto
    }
  | { readonly kind: typeof DIGEST; readonly packs: readonly FilledPack[] }

type Task = {
  readonly number: number
  readonly memory: number
  readonly message: TaskMessage
  readonly resolve: (value: true | readonly Uint8Array[]) => void
  readonly reject: (error: Error) => void
}
type Thread = { readonly worker: Worker; readonly under: Map<number, Task> }
type Attached = {
  readonly onFailure: (error: AgentError) => void
  /** Tasks that threads have. */
  under: number
  /** Called when there are none left. */
  atRest: (() => void) | undefined
}

/**
 * The worker threads of one repository, for all that reads and writes it: they hash, compress, seal and open blocks in memory shared with them. Started when asked
 * for, also before the key is known: a thread takes as long to start as a tenth of a key to be derived, and the two need nothing of each other.
 */
export class SealThreads implements AsyncDisposable {
  readonly #count: number
  readonly #codec: 'auto' | 'zlib'
  #key: SealKey | undefined
  #running: RunningThreads | undefined

  constructor(count: number, codec: 'auto' | 'zlib') {
    this.#count = count
    this.#codec = codec
  }

  /** The threads, new ones when they do not run or one of them has died. */
  start(): RunningThreads {
    if (this.#running === undefined || this.#running.dead) {
      this.#running = new RunningThreads(this.#count, { codec: this.#codec, turns: turnsMemory() })
      if (this.#key !== undefined) this.#running.unlock(this.#key)
    }
    return this.#running
  }

  /** From now on they can seal and open. */
  unlock(key: SealKey): void {
    this.#key = key
    this.#running?.unlock(key)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running?.[Symbol.asyncDispose]()
  }
}

/**
 * Threads that run. They never keep the process alive but while they have work. One that dies fails them all: everybody who attached memory is told once, and every task
 * under way and later rejects with that error.
 */
export class RunningThreads implements AsyncDisposable {
  readonly #threads: Thread[]
  readonly #attached = new Map<number, Attached>()
  /** Blocks that are hashed already go first: they are what frees slots. */
  readonly #urgent: Task[] = []
  readonly #waiting: Task[] = []
  #next = 0
  #failure: AgentError | undefined
  /** Once there is a failure: when no thread runs any more. */
  #ended: Promise<void> | undefined

  constructor(count: number, data: SealWorkerData) {
    // The source is TypeScript, the build JavaScript; both carry the worker beside this file.
    const script = new URL(`./seal-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)
    this.#threads = Array.from({ length: count }, () => {
      // Not the flags of the process: some (--input-type, --eval) are refused by a thread that runs a file.
      // A thread works in shared buffers and makes little garbage; left alone, V8 would let its young generation grow to tens of MiB.
      const resourceLimits = { maxYoungGenerationSizeMb: 4 }
      const worker = new Worker(script, { workerData: data, name: 'vcb-seal', execArgv: [], resourceLimits })
      const thread: Thread = { worker, under: new Map() }
      worker.on('message', (reply: ReplyMessage) => this.#replied(thread, reply))
      worker.on('error', (error) => this.#fail(error))
      worker.on('exit', (code) => this.#fail(new Error(`exit status ${code}`)))
      return thread
    })
    this.#reference()
  }

  /** Whether a thread died, or all were ended. */
  get dead(): boolean {
    return this.#failure !== undefined
  }

  /** Before the first task that seals or opens. */
  unlock(key: SealKey): void {
    this.#tell({ key })
  }

  /** Lets the threads work in this memory; the number it has from now on. `onFailure` is called once, when a thread dies. */
  attach(memory: SealMemory, onFailure: (error: AgentError) => void): number {
    const number = this.#next++
    this.#attached.set(number, { onFailure, under: 0, atRest: undefined })
    this.#tell({ attach: number, ...memory })
    return number
  }

  /** Rejects what waits and lets what is under way end; no thread touches the memory any more when it resolves. */
  async detach(memory: number): Promise<void> {
    await this.#ended
    const attached = this.#attached.get(memory)
    if (attached === undefined) return
    for (const queue of [this.#urgent, this.#waiting]) {
      const mine = queue.filter((task) => task.memory === memory)
      const others = queue.filter((task) => task.memory !== memory)
      queue.splice(0, queue.length, ...others)
      for (const task of mine) task.reject(new AgentError('CANCELED', 'What a task was to work on was closed.'))
    }
    if (attached.under > 0) await new Promise<void>((resolve) => (attached.atRest = resolve))
    this.#attached.delete(memory)
    this.#tell({ detach: memory })
  }

  run(memory: number, task: SealTask): Promise<true | readonly Uint8Array[]> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      const number = this.#next++
      const message: TaskMessage =
        task.kind === DIGEST
          ? [number, memory, task.kind, task.packs]
          : [number, memory, task.kind, task.target, task.length, task.level ?? 0, task.into]
      ;(task.kind === HASH || task.kind === STORE ? this.#waiting : this.#urgent).push({ number, memory, message, resolve, reject })
      this.#dispatch()
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop(new AgentError('CANCELED', 'The repository was closed.'))
  }

  #dispatch(): void {
    while (this.#failure === undefined && (this.#urgent.length > 0 || this.#waiting.length > 0)) {
      const thread = this.#threads.reduce((least, other) => (other.under.size < least.under.size ? other : least))
      if (thread.under.size >= AHEAD) return
      const task = this.#urgent.shift() ?? this.#waiting.shift()
      if (task === undefined) return
      thread.under.set(task.number, task)
      const attached = this.#attached.get(task.memory)
      if (attached !== undefined) attached.under++
      this.#reference()
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker thread, not a window
      thread.worker.postMessage(task.message)
    }
  }

  #replied(thread: Thread, [number, value]: ReplyMessage): void {
    const task = thread.under.get(number)
    if (task === undefined) return
    thread.under.delete(number)
    this.#dispatch()
    this.#reference()
    if (value === true || !('code' in value)) task.resolve(value)
    else task.reject(Object.assign(new Error(value.message), { code: value.code }))
    this.#left(task)
  }

  /** Threads hold the process only while they have work. */
  #reference(): void {
    for (const { worker, under } of this.#threads) {
      if (under.size > 0) worker.ref()
      else worker.unref()
    }
  }

  #tell(message: ThreadMessage): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- worker threads, not windows
    for (const { worker } of this.#threads) worker.postMessage(message)
  }

  #left({ memory }: Task): void {
    const attached = this.#attached.get(memory)
    if (attached === undefined || --attached.under > 0) return
    attached.atRest?.()
  }

  #fail(cause: unknown): void {
    if (this.#failure !== undefined) return
    const error = new AgentError('INTERNAL', 'A worker thread that compresses or opens blocks died.', { cause })
    const told = [...this.#attached.values()]
    // Its failure is that of the tasks.
    void this.#stop(error).finally(() => {
      for (const { onFailure } of told) onFailure(error)
    })
  }

  #stop(error: AgentError): Promise<void> {
    this.#failure ??= error
    this.#ended ??= this.#end(this.#failure)
    return this.#ended
  }

  /** Every thread first: one that lives still writes memory and files, which are somebody else's once a task is over. */
  async #end(failure: AgentError): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
    const tasks = [...this.#urgent.splice(0), ...this.#waiting.splice(0)]
    for (const { under } of this.#threads) {
      tasks.push(...under.values())
      under.clear()
    }
    for (const task of tasks) task.reject(failure)
    for (const { atRest } of this.#attached.values()) atRest?.()
    this.#attached.clear()
  }
}
