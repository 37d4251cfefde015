import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { basename } from 'node:path'
import { Duplex, type Readable, Writable } from 'node:stream'
import { AgentError, type Clock, effect, type Secret, spawnProgram } from '../core/index.ts'
import { shorten } from './nbd-error.ts'

/** What is kept of a program's complaints, characters. */
const KEPT = 4096
/** A program that was told to end gets so long before it is killed, ms. */
const GRACE_MS = 5000

/** A server that speaks NBD on its standard input and output (`nbdkit --single`). */
export type ServerProgram = {
  readonly program: string
  /** No secret belongs here: every user of the machine can read it. */
  readonly arguments: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** Read by the program from file descriptor 3. */
  readonly secret?: Secret | undefined
}

/** A started server: its two pipes as one stream. Disposal closes them, which ends it, and waits for its end. */
export type RunningServer = AsyncDisposable & {
  readonly stream: Duplex
  /** The last of what it wrote to its standard error, one line, foreign. */
  complaint(): string
}

/**
 * Starts a server. It can outlive nobody: it ends with its standard input, which the system closes when this process dies, however it does, so no
 * claim is needed. Errors: CONFIG (no such program), UNAVAILABLE.
 */
export async function startServer({ program, arguments: argv, environment, secret }: ServerProgram, clock: Clock): Promise<RunningServer> {
  const name = basename(program)
  const child = await effect({ kind: 'process', what: `start ${name}`, on: program }, () =>
    spawnProgram(program, argv, ['pipe', 'pipe', 'pipe', 'pipe'], environment),
  )
  const exited = once(child, 'exit')
  const { stdin: input, stdout: output, stderr: errors } = child
  const secrets = child.stdio[3]
  if (input === null || output === null || errors === null || !(secrets instanceof Writable)) {
    throw new AgentError('INTERNAL', `${program} was started without its pipes.`)
  }
  let said = ''
  errors.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-KEPT)))
  // One that ended already shows it by the end of its output.
  secrets.on('error', () => undefined)
  secrets.end(secret === undefined ? '' : secret.reveal())
  const stream = joined(output, input)
  return {
    stream,
    complaint: () => shorten(said.trim().split('\n').slice(-3).join('; ')),
    [Symbol.asyncDispose]: () => end(child, exited, stream, clock),
  }
}

/** Two pipes as one stream; the end or the failure of either is that of both. */
function joined(output: Readable, input: Writable): Duplex {
  const both = new Duplex({
    read: () => void output.resume(),
    write: (chunk: Uint8Array, _encoding, done) => void input.write(chunk, done),
    final: (done) => void input.end(done),
    destroy: (error, done) => {
      input.destroy()
      output.destroy()
      done(error)
    },
  })
  output.on('data', (chunk: Buffer) => {
    if (!both.push(chunk)) output.pause()
  })
  output.on('end', () => both.push(null))
  const fail = (error: Error): void => void both.destroy(error)
  output.on('error', fail)
  input.on('error', fail)
  return both
}

async function end(child: ChildProcess, exited: Promise<unknown>, stream: Duplex, clock: Clock): Promise<void> {
  stream.destroy()
  child.stdin?.destroy()
  if (child.exitCode !== null || child.signalCode !== null) return
  const waiting = new AbortController()
  const patience = clock.sleep(GRACE_MS, { signal: waiting.signal }).then(
    () => child.kill('SIGKILL'),
    () => false, // it ended in time
  )
  await effect({ kind: 'process', what: 'end of a server program', on: child.spawnfile }, async () => {
    child.kill('SIGTERM')
    await exited
  })
  waiting.abort()
  await patience
}
