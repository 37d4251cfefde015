import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, constants } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Readable } from 'node:stream'
import { type Abortable, throwIfAborted } from './abort.ts'
import type { Clock } from './clock.ts'
import { effect } from './effect.ts'
import { AgentError } from './errors.ts'
import { isMissing } from './files.ts'

/** What is kept of what a program prints, bytes. */
const KEPT = 64 * 1024
/** A program that was told to end gets so long before it is killed, ms. */
const GRACE_MS = 2000
/** Where the programs of a system are, whoever started this process; and their words in one language. */
const ENVIRONMENT = Object.freeze({
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C.UTF-8',
})

/** Where a program is that `runProgram` and `startProgram` would start; undefined when there is none. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of ENVIRONMENT.PATH.split(':')) {
    const path = join(directory, name)
    try {
      await access(path, constants.X_OK)
      return path
    } catch {
      // Not here, or not for us.
    }
  }
  return undefined
}

export type ProgramOptions = Abortable & {
  readonly clock: Clock
  /** It is killed after so long, ms. */
  readonly patienceMs: number
  /** What it may print at most, bytes; more is cut off. Default 64 KiB. */
  readonly limit?: number | undefined
  /** It only reads, and is no effect. */
  readonly reads?: boolean | undefined
  /** Descriptors of ours that it gets as 3, 4, …; it inherits no others. */
  readonly inherit?: readonly number[] | undefined
  /** All it knows of the environment. Default: where the programs of a system are, and one language. */
  readonly environment?: Readonly<Record<string, string>> | undefined
}

/** How a program ended. `exit` is undefined when a signal ended it, ours after its patience included. */
export type Ended = { readonly exit: number | undefined; readonly output: Buffer; readonly complaint: string; readonly late: boolean }

/**
 * Runs a program of the system to its end. No shell is involved. A program that fails is no error here: its caller knows what that means. One that was
 * canceled is killed. Errors: CONFIG (there is no such program), UNAVAILABLE (it cannot be started), CANCELED.
 */
export function runProgram(program: string, argv: readonly string[], options: ProgramOptions): Promise<Ended> {
  const name = basename(program)
  const run = (): Promise<Ended> => runToEnd(program, argv, options)
  return options.reads === true ? run() : effect({ kind: 'process', what: `run ${name}`, on: argv.at(-1) ?? name }, run)
}

async function runToEnd(program: string, argv: readonly string[], options: ProgramOptions): Promise<Ended> {
  throwIfAborted(options)
  const child = await spawnProgram(program, argv, ['ignore', 'pipe', 'pipe', ...(options.inherit ?? [])], options.environment)
  const closed = once(child, 'close')
  const output = collected(child.stdout, options.limit ?? KEPT)
  const complaint = collected(child.stderr, KEPT)
  const done = new AbortController()
  let late = false
  const patience = options.clock.sleep(options.patienceMs, { signal: done.signal }).then(
    () => (late = child.kill('SIGKILL')),
    () => false, // it ended in time
  )
  const stop = (): void => void child.kill('SIGKILL')
  options.signal?.addEventListener('abort', stop, { once: true, signal: done.signal })
  try {
    await closed
  } finally {
    done.abort()
    await patience
  }
  throwIfAborted(options)
  return { exit: child.exitCode ?? undefined, output: output(), complaint: oneLine(complaint().toString('utf8')), late }
}

/** A program that works until it is told to end. It does not end with this process: what it holds is a claim. */
export interface RunningProgram extends AsyncDisposable {
  readonly pid: number
  readonly output: Readable
  /** What it complained of, one line. */
  complaint(): string
  /** Resolves when it has ended, with its exit status; undefined after a signal. */
  readonly ended: Promise<number | undefined>
}

/**
 * Starts a program with `input` (a descriptor of ours) as its standard input, or with none; `environment` as for `runProgram`. Disposal ends it: SIGTERM, and SIGKILL when that does
 * nothing. Errors: CONFIG (there is no such program), UNAVAILABLE.
 */
export async function startProgram(
  program: string,
  argv: readonly string[],
  {
    clock,
    input,
    environment,
  }: { readonly clock: Clock; readonly input?: number | undefined; readonly environment?: Readonly<Record<string, string>> | undefined },
): Promise<RunningProgram> {
  const name = basename(program)
  const child = await effect({ kind: 'process', what: `start ${name}`, on: argv.at(-1) ?? name }, () =>
    spawnProgram(program, argv, [input ?? 'ignore', 'pipe', 'pipe'], environment),
  )
  const complaint = collected(child.stderr, KEPT)
  const ended = once(child, 'exit').then(() => child.exitCode ?? undefined)
  if (child.pid === undefined || child.stdout === null) throw new AgentError('INTERNAL', `${program} was started without its pipes.`)
  return {
    pid: child.pid,
    output: child.stdout,
    complaint: () => oneLine(complaint().toString('utf8')),
    ended,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      await effect({ kind: 'process', what: `end ${name}`, on: program }, () => end(child, ended, clock))
    },
  }
}

/** Ends a process that is not our child: SIGTERM, or SIGKILL. Gone already is success. Who calls knows that the pid still is the process it means. */
export async function signalProcess(pid: number, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  await effect({ kind: 'process', what: `send ${signal}`, on: String(pid) }, async () => {
    try {
      process.kill(pid, signal)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
    }
  })
}

async function end(child: ChildProcess, ended: Promise<unknown>, clock: Clock): Promise<void> {
  const waiting = new AbortController()
  const patience = clock.sleep(GRACE_MS, { signal: waiting.signal }).then(
    () => child.kill('SIGKILL'),
    () => false, // it ended in time
  )
  child.kill('SIGTERM')
  await ended
  waiting.abort()
  await patience
}

/** A program that runs, with these as its descriptors 0, 1, 2, …. Who calls makes it an effect and sees to its end. Errors: CONFIG (there is no such program), UNAVAILABLE. */
export async function spawnProgram(
  program: string,
  argv: readonly string[],
  stdio: readonly ('ignore' | 'pipe' | number)[],
  environment: Readonly<Record<string, string>> = ENVIRONMENT,
): Promise<ChildProcess> {
  const child = spawn(program, [...argv], { stdio: [...stdio], env: { ...environment }, cwd: '/' })
  try {
    await once(child, 'spawn')
    return child
  } catch (error) {
    if (isMissing(error)) {
      throw new AgentError('CONFIG', `The program ${program} does not exist.`, {
        subject: program,
        cause: error,
        next: `Install ${program} and run the command again.`,
      })
    }
    throw new AgentError('UNAVAILABLE', `The program ${program} cannot be started.`, { subject: program, cause: error })
  }
}

/** Reads a pipe to its end and keeps its beginning. */
function collected(pipe: Readable | null, limit: number): () => Buffer {
  const pieces: Buffer[] = []
  let kept = 0
  pipe?.on('data', (piece: Buffer) => {
    const part = piece.subarray(0, limit - kept)
    kept += part.length
    if (part.length > 0) pieces.push(part)
  })
  return () => Buffer.concat(pieces)
}

const oneLine = (text: string): string => text.trim().split('\n').slice(-3).join('; ').slice(0, 500)
