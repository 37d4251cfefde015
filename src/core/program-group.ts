import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { type Abortable, anySignal, throwIfAborted } from './abort.ts'
import type { Clock } from './clock.ts'
import { effect } from './effect.ts'
import { AgentError } from './errors.ts'
import { isMissing } from './files.ts'

/** What is kept of each of its outputs, bytes. */
const KEPT = 64 * 1024
/** From SIGTERM to SIGKILL, ms. */
export const GROUP_GRACE_MS = 2000
/** So long its outputs are read after it ended, and one is waited for that not even SIGKILL ends, ms. */
const LAST_MS = 2000

export type GroupOptions = Abortable & {
  readonly clock: Clock
  /** Name of the effect. */
  readonly what: string
  /** Then it is told to end, ms. */
  readonly patienceMs: number
  /** All of its standard input. */
  readonly input: string
  /** All it knows of the environment. */
  readonly environment: Readonly<Record<string, string>>
}

/** `exit`: undefined when a signal ended it, or it did not even end by SIGKILL. `late`: its time was over. `cut`: it printed more than is kept. */
export type GroupEnded = {
  readonly exit: number | undefined
  readonly late: boolean
  readonly output: Buffer
  readonly complaint: Buffer
  readonly cut: boolean
}

/**
 * Runs somebody's program to its end, in a process group of its own and without a shell. When its time is over, or `signal` aborts, the group gets SIGTERM and 2 s later
 * SIGKILL: it ends at most 4 s after its patience, whatever it does. What it left running when it ended in time is left alone. A program that fails is no error here.
 * Errors: CONFIG (there is no such program), UNAVAILABLE (it cannot be started), CANCELED.
 */
export const runGroup = (argv: readonly string[], options: GroupOptions): Promise<GroupEnded> =>
  effect({ kind: 'process', what: options.what, on: argv[0] ?? '' }, () => toItsEnd(argv, options))

async function toItsEnd(argv: readonly string[], { clock, patienceMs, input, environment, signal }: GroupOptions): Promise<GroupEnded> {
  throwIfAborted({ signal })
  const child = await started(argv, environment)
  const [exited, closed] = [once(child, 'exit'), once(child, 'close')]
  const output = collected(child.stdout)
  const complaint = collected(child.stderr)
  // One that does not read its input is its own affair.
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(input)

  const over = new AbortController()
  let stopped = false
  let late = false
  const limit = async (): Promise<void> => {
    try {
      await clock.sleep(patienceMs, { signal: anySignal(over.signal, signal) })
      late = true
    } catch {
      if (over.signal.aborted) return
    }
    stopped = true
    try {
      for (const [word, ms] of [['SIGTERM', GROUP_GRACE_MS] as const, ['SIGKILL', LAST_MS] as const]) {
        signalGroup(child, word)
        await clock.sleep(ms, { signal: over.signal })
      }
    } catch {
      // It has ended.
    }
  }
  const limited = limit()
  // A program that hangs in the kernel does not end before its call does; nobody waits for that.
  await Promise.race([exited, limited.then(() => (stopped ? undefined : exited))])
  over.abort()
  await limited
  if (stopped) signalGroup(child, 'SIGKILL')
  await lastWords(child, closed, clock)
  throwIfAborted({ signal: late ? undefined : signal })
  const [said, complained] = [output(), complaint()]
  return { exit: child.exitCode ?? undefined, late, output: said.kept, complaint: complained.kept, cut: said.cut || complained.cut }
}

/** What it started may hold its outputs open for ever. */
async function lastWords(child: ChildProcess, closed: Promise<unknown>, clock: Clock): Promise<void> {
  const read = new AbortController()
  const patience = async (): Promise<void> => {
    try {
      await clock.sleep(LAST_MS, { signal: read.signal })
    } catch {
      // All was read.
      return
    }
    for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe?.destroy()
  }
  const late = patience()
  await Promise.race([closed, late])
  read.abort()
  await late
}

async function started(argv: readonly string[], environment: Readonly<Record<string, string>>): Promise<ChildProcess> {
  const [program = '', ...words] = argv
  try {
    const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'pipe'], detached: true, env: { ...environment }, cwd: '/' })
    await once(child, 'spawn')
    return child
  } catch (error) {
    const reason = isMissing(error) ? 'does not exist' : 'cannot be started'
    throw new AgentError(isMissing(error) ? 'CONFIG' : 'UNAVAILABLE', `The program ${program} ${reason}.`, {
      subject: program,
      cause: error,
    })
  }
}

/** To all of its group. */
function signalGroup({ pid }: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    // No process of the group is left, or only one that became somebody else's.
    if (!(error instanceof Error && 'code' in error && (error.code === 'ESRCH' || error.code === 'EPERM'))) throw error
  }
}

/** Reads a pipe to its end and keeps its beginning. */
function collected(pipe: Readable | null): () => { readonly kept: Buffer; readonly cut: boolean } {
  const pieces: Buffer[] = []
  let room = KEPT
  let cut = false
  pipe?.on('data', (piece: Buffer) => {
    const part = piece.subarray(0, room)
    cut ||= part.length < piece.length
    room -= part.length
    if (part.length > 0) pieces.push(part)
  })
  return () => ({ kept: Buffer.concat(pieces), cut })
}
