import {
  AgentError,
  type Clock,
  type FileReader,
  isSafeFileName,
  type Log,
  openFuseDevice,
  runProgram,
  type RunningProgram,
  type ScratchFile,
  startProgram,
  throwIfAborted,
  toAgentError,
} from '../core/index.ts'
import { type Answers, errnoOf } from './answers.ts'
import { FileAnswers } from './file-answers.ts'
import { ERRNO, LARGEST_REQUEST, OPCODE, OUT_HEADER } from './protocol.ts'
import { type FuseRequest, requests } from './requests.ts'
import { type FileActivity, ServedFile, type FileToServe } from './served-file.ts'
import type { TreeToServe } from './served-tree.ts'
import { TreeAnswers } from './tree-answers.ts'

/** Requests that are worked on at a time. */
const IN_FLIGHT = 32
const MOUNT_MS = 30_000
/** How long the reader may take to see that its directory was unmounted, ms. */
const END_MS = 2000

export type FuseOptions = {
  /** An empty directory, absolute; only root can mount there. */
  readonly directory: string
  /** What the mount table names as its source: a word by which it is found again. */
  readonly mark: string
  readonly clock: Clock
  readonly log: Log
}

/**
 * A file system that this process serves. The kernel asks this process for every byte: it must never open, list or even `stat` what is mounted here itself, but
 * only through programs that it starts. Disposal ends serving, after somebody has unmounted the directory (who reads on gets an error); it does not unmount.
 */
export interface FuseServer extends AsyncDisposable {
  readonly directory: string
  readonly activity: readonly FileActivity[]
  /** Resolves when the kernel asks no more: it was unmounted, or its connection broke. */
  readonly ended: Promise<void>
}

/** Shows disks as files in one directory, read-only ones to `reader` too. Mounted and served when it resolves. Errors: CONFIG (no FUSE, not root, no such directory), USAGE (a name), UNAVAILABLE. */
export async function serveFiles(
  options: FuseOptions & {
    readonly files: readonly FileToServe[]
    readonly reader?: FileReader | undefined
    /** The directory looks empty: files only for those who know their names. */
    readonly unlisted?: boolean | undefined
  },
): Promise<FuseServer> {
  const { directory, clock } = options
  const names = options.files.map(({ name }) => name)
  if (new Set(names).size < names.length || !names.every(isSafeFileName)) {
    throw new AgentError('USAGE', `These names cannot be files of one directory: ${names.join(', ')}.`, { subject: directory })
  }
  const files = options.files.map((file, index) => new ServedFile(file, index, clock))
  await Promise.all(files.filter(({ writable }) => !writable).map((file) => file.count()))
  const modified = options.files.reduce((last, file) => (file.modified > last ? file.modified : last), new Date(0))
  return serve(options, new FileAnswers(files, modified, owner(), options), files.some((file) => file.writable) ? 'rw' : 'ro')
}

/** Shows a tree, whose activity is told under `name`. As `serveFiles`. */
export const serveTree = (options: FuseOptions & { readonly tree: TreeToServe; readonly name: string }): Promise<FuseServer> =>
  serve(options, new TreeAnswers(options.tree, options.name, owner(), options.clock), 'ro')

const owner = (): { readonly user: number; readonly group: number } => ({
  user: process.getuid?.() ?? 0,
  group: process.getgid?.() ?? 0,
})

async function serve(options: FuseOptions, answers: Answers, writable: 'ro' | 'rw'): Promise<FuseServer> {
  const { directory, clock, mark } = options
  const device = await openFuseDevice().catch((error: unknown) => {
    throw new AgentError('CONFIG', 'The device /dev/fuse cannot be opened.', {
      cause: error,
      next: 'Load the kernel module fuse, and run vcb as root.',
    })
  })
  try {
    const { user, group } = owner()
    const flags = `fd=3,rootmode=40000,user_id=${user},group_id=${group},default_permissions,allow_other,nosuid,nodev,noexec,${writable}`
    const ended = await runProgram('mount', ['-i', '-t', 'fuse.vcb', '-o', flags, mark, directory], {
      clock,
      patienceMs: MOUNT_MS,
      inherit: [device.fd],
    })
    if (ended.exit !== 0) {
      throw new AgentError('CONFIG', `A FUSE file system cannot be mounted on ${directory}: ${ended.complaint}`, {
        subject: directory,
        next: 'See "vcb doctor" for what this proxy can mount; it needs root.',
      })
    }
    // Reads one request at a time and hands it on: Node cannot wait for this device without losing a thread to it for good.
    const reader = await startProgram('dd', [`bs=${LARGEST_REQUEST}`, 'status=none'], { clock, input: device.fd })
    return new Server(options, answers, device, reader)
  } catch (error) {
    await device.close()
    throw error
  }
}

class Server implements FuseServer {
  readonly directory: string
  readonly ended: Promise<void>
  readonly #log: Log
  readonly #clock: Clock
  readonly #answers: Answers
  readonly #device: ScratchFile
  readonly #reader: RunningProgram
  readonly #underWay = new Map<bigint, { readonly stop: AbortController; readonly work: Promise<void> }>()
  /** Requests that wait for room: of each thread that reads there is one, and the kernel holds back the rest. They go on being read, so that an interrupt is. */
  readonly #waiting: (() => void)[] = []
  #working = 0
  #closed: Promise<void> | undefined

  constructor(options: FuseOptions, answers: Answers, device: ScratchFile, reader: RunningProgram) {
    this.directory = options.directory
    this.#log = options.log
    this.#clock = options.clock
    this.#answers = answers
    this.#device = device
    this.#reader = reader
    this.ended = this.#serve()
  }

  get activity(): readonly FileActivity[] {
    return this.#answers.activity
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#unmounted()
    await this.#reader[Symbol.asyncDispose]()
    await this.#close()
    await this.ended
  }

  /** Of a directory that was unmounted the reader ends by itself; it is only ended by us where it does not. */
  async #unmounted(): Promise<void> {
    const over = new AbortController()
    const late = this.#clock.sleep(END_MS, { signal: over.signal }).catch(() => undefined) // it ended in time
    await Promise.race([this.#reader.ended, late])
    over.abort()
    await late
  }

  async #serve(): Promise<void> {
    try {
      for await (const request of requests(this.#reader.output)) {
        if (request.opcode === OPCODE.interrupt) {
          this.#underWay.get(request.body.readBigUInt64LE(0))?.stop.abort(new AgentError('CANCELED', 'The reader was interrupted.'))
          continue
        }
        this.#begin(request)
      }
    } catch (error) {
      this.#log.warn('serving files through FUSE broke off', { directory: this.directory, error: toAgentError(error).message })
    }
    // Whoever still waits for bytes gets an error now instead of waiting for ever.
    await this.#close()
  }

  #begin(request: FuseRequest): void {
    const stop = new AbortController()
    const work = this.#answer(request, { signal: stop.signal })
      .catch((error: unknown) => {
        // The kernel has given up the request, or the connection with all of them.
        this.#log.debug('a FUSE request was not answered', { directory: this.directory, error: toAgentError(error).message })
      })
      .finally(() => this.#underWay.delete(request.unique))
    this.#underWay.set(request.unique, { stop, work })
  }

  async #answer(request: FuseRequest, options: { readonly signal: AbortSignal }): Promise<void> {
    let message: Buffer
    using _room = await this.#room()
    try {
      throwIfAborted(options)
      const answer = await this.#answers.answer(request, options)
      if (answer === undefined) return
      message = 'message' in answer ? answer.message : Buffer.concat([Buffer.alloc(OUT_HEADER), answer.body])
      message.writeInt32LE(0, 4)
    } catch (error) {
      const errno = options.signal.aborted ? ERRNO.EINTR : errnoOf(error)
      if (errno === ERRNO.EIO) this.#log.warn('a file shown through FUSE could not be read', { error: toAgentError(error).message })
      message = Buffer.alloc(OUT_HEADER)
      message.writeInt32LE(-errno, 4)
    }
    message.writeUInt32LE(message.length, 0)
    message.writeBigUInt64LE(request.unique, 8)
    await this.#device.write(message, 0, message.length, null)
  }

  async #room(): Promise<Disposable> {
    if (this.#working >= IN_FLIGHT) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    else this.#working++
    return {
      [Symbol.dispose]: () => {
        // Who waits takes the room over.
        const next = this.#waiting.shift()
        if (next === undefined) this.#working--
        else next()
      },
    }
  }

  #close(): Promise<void> {
    this.#closed ??= (async () => {
      for (const { stop } of this.#underWay.values()) stop.abort(new AgentError('CANCELED', 'The file system was unmounted.'))
      await Promise.all([...this.#underWay.values()].map(({ work }) => work))
      await this.#device.close()
    })()
    return this.#closed
  }
}
