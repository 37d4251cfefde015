import { Worker } from 'node:worker_threads'
import { AgentError } from '../core/index.ts'
import {
  DIGEST,
  HASH,
  OPEN,
  type ReplyMessage,
  SEAL,
  type SealedEntry,
  type SealWorkerData,
  SlotMemory,
  type TaskMessage,
} from './seal-tasks.ts'

/** Tasks handed to a worker ahead of its replies, so that it need not wait for the main thread. */
const AHEAD = 2

type Task = {
  readonly number: number
  readonly kind: number
  readonly target: number
  readonly length: number
  readonly level: number
  readonly resolve: (value: true | Uint8Array) => void
  readonly reject: (error: AgentError) => void
}
type Thread = { readonly worker: Worker; readonly under: Map<number, Task> }

export type SealedBlock = { readonly sealed: Uint8Array; readonly uncompressedLength: number }

/**
 * Worker threads that hash, compress and seal blocks in memory shared with them, open sealed ones, and digest packs. They never keep the process alive.
 * A thread that dies fails the pool: `onFailure` is called once, and every task under way and later rejects with that error.
 */
export class SealPool implements AsyncDisposable {
  readonly #threads: Thread[]
  readonly #memories: readonly SlotMemory[]
  readonly #onFailure: (error: AgentError) => void
  /** Sealing goes before hashing: it is what frees slots. */
  readonly #urgent: Task[] = []
  readonly #waiting: Task[] = []
  #next = 0
  #failure: AgentError | undefined

  constructor(count: number, data: SealWorkerData, onFailure: (error: AgentError) => void) {
    this.#onFailure = onFailure
    this.#memories = data.slots.map((memory) => new SlotMemory(memory, data.blockSize))
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

  /** The memory of a slot's blocks. */
  plain(slot: number): Uint8Array {
    return this.#memory(slot).plain
  }

  /** Ids of the `wanted` ones of the blocks that stand one after the other in a slot, in that order; copies. */
  async hash(slot: number, lengths: readonly number[], wanted: readonly number[]): Promise<readonly Uint8Array[]> {
    const memory = this.#memory(slot)
    memory.ask(lengths, new Set(wanted))
    await this.#run(HASH, slot, lengths.length)
    return wanted.map((block) => Uint8Array.from(memory.entry(block).id))
  }

  /** Compresses (`level` 0: not) and seals the `wanted` ones. The results, in that order, lie in the slot. */
  async seal(slot: number, lengths: readonly number[], wanted: readonly number[], level: number): Promise<readonly SealedBlock[]> {
    const memory = this.#memory(slot)
    memory.ask(lengths, new Set(wanted))
    await this.#run(SEAL, slot, lengths.length, level)
    return wanted.map((block) => {
      const { sealedAt, sealedLength, plainLength } = memory.entry(block)
      return { sealed: memory.sealed.subarray(sealedAt, sealedAt + sealedLength), uncompressedLength: plainLength }
    })
  }

  /** Room of a slot for sealed blobs. */
  sealed(slot: number): Buffer {
    return this.#memory(slot).sealed
  }

  /**
   * Opens sealed blobs that lie in a slot's room, each into the block of its number; what lies there is used up. Which of them were found to be what
   * their ids say; the bytes of the others mean nothing.
   */
  async open(slot: number, lengths: readonly number[], entries: readonly SealedEntry[]): Promise<readonly boolean[]> {
    const memory = this.#memory(slot)
    memory.askOpen(lengths, entries)
    await this.#run(OPEN, slot, lengths.length)
    return entries.map((_entry, block) => memory.entry(block).sound)
  }

  /** SHA-256 of the first `length` bytes of a pack buffer. */
  async digest(pack: number, length: number): Promise<Uint8Array> {
    const digest = await this.#run(DIGEST, pack, length)
    if (digest === true) throw new AgentError('INTERNAL', 'A seal worker gave no digest.')
    return digest
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop(new AgentError('CANCELED', 'The repository was closed.'))
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }

  #run(kind: number, target: number, length: number, level = 0): Promise<true | Uint8Array> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      const task: Task = { number: this.#next++, kind, target, length, level, resolve, reject }
      ;(kind === HASH ? this.#waiting : this.#urgent).push(task)
      this.#dispatch()
    })
  }

  #dispatch(): void {
    while (this.#urgent.length > 0 || this.#waiting.length > 0) {
      const thread = this.#threads.reduce((least, other) => (other.under.size < least.under.size ? other : least))
      if (thread.under.size >= AHEAD) return
      const task = this.#urgent.shift() ?? this.#waiting.shift()
      if (task === undefined) return
      thread.under.set(task.number, task)
      this.#reference()
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker thread, not a window
      thread.worker.postMessage([task.number, task.kind, task.target, task.length, task.level] satisfies TaskMessage)
    }
  }

  #replied(thread: Thread, [number, value]: ReplyMessage): void {
    const task = thread.under.get(number)
    if (task === undefined) return
    thread.under.delete(number)
    this.#dispatch()
    this.#reference()
    task.resolve(value)
  }

  /** Threads hold the process only while they have work. */
  #reference(): void {
    for (const { worker, under } of this.#threads) {
      if (under.size > 0) worker.ref()
      else worker.unref()
    }
  }

  #fail(cause: unknown): void {
    if (this.#failure !== undefined) return
    const error = new AgentError('INTERNAL', 'A worker thread that compresses or opens blocks died.', { cause })
    this.#stop(error)
    this.#onFailure(error)
  }

  #stop(error: AgentError): void {
    this.#failure ??= error
    const tasks = [...this.#urgent.splice(0), ...this.#waiting.splice(0)]
    for (const { under } of this.#threads) {
      tasks.push(...under.values())
      under.clear()
    }
    for (const task of tasks) task.reject(this.#failure)
  }

  #memory(slot: number): SlotMemory {
    const memory = this.#memories[slot]
    if (memory === undefined) throw new AgentError('INTERNAL', `There is no slot ${slot}.`)
    return memory
  }
}
