import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { basename } from 'node:path'
import { type Readable, Writable } from 'node:stream'
import { AgentError, type Clock, effect, isMissing } from '../core/index.ts'

/** What is kept of each of a program's outputs, characters. */
const KEPT = 4096
/** A program that was told to end gets so long before it is killed, ms. */
const GRACE_MS = 5000
/** How often one that does not hear is told, ms. */
const AGAIN_MS = 1000
/** How long its outputs are read after it ended, ms. */
const OUTPUT_MS = 2000

/** The program starts only when the gate says so: dead before that, this process leaves nothing that ever read a stream. */
const GATE = 'read -r word <&3 && [ "$word" = go ] || exit 125; exec "$@" 3<&-'

/**
 * Holds the writing end of the program's input open, so that the death of this process, even by kill -9, is no end of file for the program: it
 * is ended first, and only then its input closes. `$1` is the program's process group, `$2` the signal it ends at.
 */
const KEEPER =
  'read -r word <&3 || word=; [ "$word" = over ] && exit 0; kill -s "$2" -- "-$1" 2>/dev/null; n=0; ' +
  'while [ $n -lt 50 ] && kill -s 0 -- "-$1" 2>/dev/null; do sleep 0.1; n=$((n+1)); done; kill -s KILL -- "-$1" 2>/dev/null; exit 0'

type Ending = { readonly signal: NodeJS.Signals; readonly deaf: boolean }

/** How a program ended: its exit status, or the signal that ended it. */
export type ProgramEnd = { readonly status: number | null; readonly signal: NodeJS.Signals | null }

export type ProgramHabits = {
  /** Where it runs; where this process does, when absent. */
  readonly directory?: string | undefined
  /** The signal at which it ends in order; TERM when absent. */
  readonly endsAt?: 'TERM' | 'INT' | undefined
  /** It sometimes does not hear the first, and is sent it again every second (borg: an exception inside its chunker is lost). */
  readonly deaf?: boolean | undefined
}

/**
 * A program this process owns while it reads a stream from its standard input: in a process group of its own, which is ended with it, and watched by
 * a second small process (`sh`) that ends it when this one dies. Its input is closed by `close` or after its end, never before.
 */
export class OwnedProgram {
  readonly name: string
  readonly input: Writable
  /** Resolves when it has ended and its outputs were read; never rejects. */
  readonly ended: Promise<ProgramEnd>
  readonly #child: ChildProcess
  readonly #keeper: ChildProcess
  readonly #clock: Clock
  readonly #endsAt: Ending
  readonly #said: { output: string; errors: string }

  private constructor(name: string, child: ChildProcess, keeper: ChildProcess, input: Writable, clock: Clock, endsAt: Ending) {
    this.name = name
    this.input = input
    this.#child = child
    this.#keeper = keeper
    this.#clock = clock
    this.#endsAt = endsAt
    this.#said = { output: '', errors: '' }
    collect(child.stdout, (text) => (this.#said.output = (this.#said.output + text).slice(-KEPT)))
    collect(child.stderr, (text) => (this.#said.errors = (this.#said.errors + text).slice(-KEPT)))
    // Each write's own callback reports a broken pipe; without a listener the event would end the process first.
    input.on('error', () => undefined)
    this.ended = this.#end()
  }

  /** `argv[0]` is looked up in the PATH of `environment`. Errors: CONFIG (no such program), UNAVAILABLE. */
  static async start(
    argv: readonly string[],
    environment: Readonly<NodeJS.ProcessEnv>,
    clock: Clock,
    { directory, endsAt = 'TERM', deaf = false }: ProgramHabits = {},
  ): Promise<OwnedProgram> {
    const name = basename(argv[0] ?? '')
    return effect({ kind: 'process', what: 'start program', on: name }, async () => {
      const child = await started(
        spawn('/bin/sh', ['-c', GATE, 'vcb-gate', ...argv], {
          stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
          detached: true,
          env: environment,
          cwd: directory,
        }),
      )
      const { stdin, pid } = child
      const gate = child.stdio[3]
      if (stdin === null || pid === undefined || !(gate instanceof Writable)) {
        throw new AgentError('INTERNAL', `${name} was started without its pipes.`)
      }
      gate.on('error', () => undefined)
      try {
        const keeper = await started(
          spawn('/bin/sh', ['-c', KEEPER, 'vcb-keeper', String(pid), endsAt], {
            stdio: ['ignore', 'ignore', 'ignore', 'pipe', stdin],
            detached: true,
            env: { PATH: environment['PATH'] ?? '/usr/bin:/bin' },
          }),
        )
        return new OwnedProgram(name, child, keeper, stdin, clock, { signal: `SIG${endsAt}`, deaf })
      } finally {
        // After a failure the gate closes without its word, and nothing is started.
        gate.end(stdin.writable ? 'go\n' : '')
      }
    })
  }

  /** The last of what it wrote to its standard output. Foreign. */
  get output(): string {
    return this.#said.output
  }

  /** The last of what it wrote to its standard error, one line. Foreign. */
  get complaint(): string {
    const lines = this.#said.errors.trim().split('\n').slice(-3).join('; ')
    return lines.replace(/[^\x20-\x7e\u00a0-\u{10ffff}]/gu, ' ').slice(-500)
  }

  /** End of file for the program. */
  close(): void {
    this.input.end()
  }

  /** Ends the program and everything it started: by the signal it ends at, after 5 s by KILL; its input closes after that. Idempotent. */
  async kill(): Promise<void> {
    await effect({ kind: 'process', what: 'end program', on: this.name }, async () => {
      if (this.#child.exitCode === null && this.#child.signalCode === null) {
        const waiting = new AbortController()
        const late = this.#insist(waiting.signal).then(
          () => this.#signal('SIGKILL'),
          () => undefined, // it ended in time
        )
        await this.ended
        waiting.abort()
        await late
      }
      this.#signal('SIGKILL')
      this.input.destroy()
      await this.ended
    })
  }

  /** Tells it to end, and gives it time to. Rejects when that is over by `signal`. */
  async #insist(signal: AbortSignal): Promise<void> {
    this.#signal(this.#endsAt.signal)
    for (let waited = 0; waited < GRACE_MS; waited += AGAIN_MS) {
      await this.#clock.sleep(AGAIN_MS, { signal })
      if (this.#endsAt.deaf) this.#signal(this.#endsAt.signal)
    }
  }

  /** To all of its group: what it started must not read on either. */
  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child
    if (pid === undefined) return
    try {
      process.kill(-pid, signal)
    } catch (error) {
      // No process of the group is left.
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
    }
  }

  async #end(): Promise<ProgramEnd> {
    const closed = once(this.#child, 'close')
    const [status, signal] = await once(this.#child, 'exit')
    const word = this.#keeper.stdio[3]
    if (word instanceof Writable) {
      word.on('error', () => undefined)
      word.end('over\n')
    }
    // What it wrote last is read; something it left behind may hold its outputs open for ever.
    const read = new AbortController()
    const late = this.#clock.sleep(OUTPUT_MS, { signal: read.signal }).catch(() => undefined)
    await Promise.race([closed, late])
    read.abort()
    return { status, signal }
  }
}

async function started(child: ChildProcess): Promise<ChildProcess> {
  try {
    await once(child, 'spawn')
    return child
  } catch (error) {
    const code = isMissing(error) ? 'CONFIG' : 'UNAVAILABLE'
    throw new AgentError(code, 'The shell /bin/sh, which starts programs, cannot be started.', { subject: '/bin/sh', cause: error })
  }
}

function collect(stream: Readable | null, take: (text: string) => void): void {
  stream?.setEncoding('utf8').on('data', take)
}
