import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fastDirectory } from '../fast-directory.ts'
import { installCommand } from './installed-command.ts'
import type { Recorded } from './commands.ts'
import type { CutResult, CutTask } from './live-cut.ts'

export type WorkerRequest = { readonly flow: string; readonly task?: CutTask | undefined }
export type WorkerAnswer = { readonly recorded: Recorded } | { readonly result: CutResult } | { readonly error: string }

/** Room before garbage is collected: a cut leaves tens of MiB of buffers, and collecting them is a sixth of its time. */
const ROOM = ['--initial-old-space-size=768', '--min-semi-space-size=32', '--max-semi-space-size=64']

/** Worker processes, each with a place of its own; what they made is removed with the pool, unless it is to be kept. */
export class Pool implements AsyncDisposable {
  readonly root: string
  readonly #keep: boolean
  readonly #workers: ChildProcess[] = []

  private constructor(root: string, keep: boolean) {
    this.root = root
    this.#keep = keep
  }

  static async open(size: number, options: { readonly keep?: boolean | undefined } = {}): Promise<Pool> {
    const pool = new Pool(await fastDirectory('vcb-crash-'), options.keep === true)
    const command = await installCommand(join(pool.root, 'command'))
    for (let index = 0; index < size; index++) {
      const worker = fork(join(import.meta.dirname, 'worker.ts'), [join(pool.root, `worker${index}`), command], { execArgv: ROOM })
      pool.#workers.push(worker)
    }
    return pool
  }

  /** The effects of each flow, in order. */
  async record(flows: readonly string[]): Promise<ReadonlyMap<string, Recorded>> {
    const found = new Map<string, Recorded>()
    await this.#each(flows, async (worker, flow) => {
      const answer = await ask(worker, { flow })
      if (!('recorded' in answer)) throw new Error('error' in answer ? answer.error : 'no list of effects')
      found.set(flow, answer.recorded)
    })
    return found
  }

  /**
   * Lives every task; `onResult` sees each as it ends and says which are to follow in the same place. A cut that could not even be judged is a
   * leftover.
   */
  async cut(tasks: readonly CutTask[], onResult: (result: CutResult) => readonly CutTask[] | void): Promise<void> {
    await this.#each(tasks, async (worker, first) => {
      const queue = [first]
      for (const task of queue) {
        const answer = await ask(worker, { flow: task.flow, task })
        const what = 'error' in answer ? answer.error : 'no result'
        const lost = {
          task,
          reached: false,
          secondReached: false,
          problems: [{ kind: 'leftover', what }],
          recovery: [],
          seconds: 0,
        } as const
        queue.push(...(onResult('result' in answer ? answer.result : lost) ?? []))
      }
    })
  }

  async #each<T>(items: readonly T[], work: (worker: ChildProcess, item: T) => Promise<void>): Promise<void> {
    const queue = items.values()
    await Promise.all(
      this.#workers.map(async (worker) => {
        for (const item of queue) await work(worker, item)
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#workers.map(async (worker) => {
        if (worker.exitCode !== null || worker.signalCode !== null) return
        worker.disconnect()
        await once(worker, 'exit')
      }),
    )
    if (!this.#keep) await rm(this.root, { recursive: true, force: true })
  }
}

async function ask(worker: ChildProcess, request: WorkerRequest): Promise<WorkerAnswer> {
  const gone = new AbortController()
  try {
    const ended = once(worker, 'exit', { signal: gone.signal }).then((): never => {
      throw new Error(`a worker process ended at ${request.flow}`)
    })
    // Which of the two loses is no error: the listener is taken off below.
    ended.catch(() => undefined)
    const answered = once(worker, 'message', { signal: gone.signal }) as Promise<[WorkerAnswer]>
    worker.send(request)
    const [answer] = await Promise.race([answered, ended])
    return answer
  } finally {
    gone.abort()
  }
}
