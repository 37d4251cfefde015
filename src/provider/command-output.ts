import { createHash } from 'node:crypto'
import { type Abortable, AgentError, type Clock, type Log } from '../core/index.ts'
import type { ArchiveOutput } from './archive-output.ts'
import { OwnedProgram, type ProgramHabits } from './owned-program.ts'

/** How long a program may take, ms. */
export type ProgramPatience = {
  /** Without reading anything, while there is something to read. */
  readonly stallMs: number
  /** After the end of the stream, to store it. */
  readonly endMs: number
}

export const PATIENCE: ProgramPatience = Object.freeze({ stallMs: 600_000, endMs: 3_600_000 })

export type CommandDeps = { readonly clock: Clock; readonly log: Log; readonly patience?: ProgramPatience | undefined }

/**
 * An archive into the standard input of a program. It is complete when the program ended with status 0 after the end of the stream, and, where it
 * printed the stream's SHA-256 as `sha256sum` does, when that is the digest of what was sent. On everything else the program is ended before its
 * input closes. `asked`: its caller asks it afterwards what it stored. Errors: UNAVAILABLE (it ended, or stopped reading), INTEGRITY (it read something else), CONFIG (no such program).
 */
export async function commandOutput(
  argv: readonly string[],
  environment: Readonly<NodeJS.ProcessEnv>,
  { clock, log, patience = PATIENCE }: CommandDeps,
  { signal, asked, ...habits }: Abortable & ProgramHabits & { readonly asked?: boolean | undefined } = {},
): Promise<ArchiveOutput> {
  const program = await OwnedProgram.start(argv, environment, clock, habits)
  const { name } = program
  const sha256 = createHash('sha256')
  let sent = 0
  const failed = (what: string): AgentError => {
    const said = program.complaint === '' ? '' : ` It said: ${program.complaint}`
    return new AgentError('UNAVAILABLE', `The program ${name} ${what}.${said}`, {
      subject: name,
      next: 'Correct what it complains about, and remove what it may have stored of this run.',
    })
  }
  const endOf = async (): Promise<AgentError> => {
    const { status, signal: by } = await program.ended
    if (status === 127 || status === 126) {
      return new AgentError('CONFIG', `The program ${name} cannot be started: ${program.complaint}`, { subject: name })
    }
    const how = by === null ? `with status ${status}` : `by ${by}`
    return failed(`ended ${how} after ${sent} bytes of the archive`)
  }
  /** Waits for `work`, for a limited time; the program is ended when that is over, or on cancel. */
  const within = async <T>(work: Promise<T>, ms: number, late: string): Promise<T> => {
    const done = new AbortController()
    const tooLate = clock.sleep(ms, { signal: signal === undefined ? done.signal : AbortSignal.any([done.signal, signal]) }).then(
      () => failed(late),
      (reason: unknown) => reason,
    )
    try {
      const first = await Promise.race([work.then((value) => ({ value })), tooLate.then((error) => ({ error }))])
      if ('value' in first) return first.value
      await program.kill()
      throw first.error
    } finally {
      done.abort()
    }
  }
  return {
    async write(bytes) {
      const written = new Promise<boolean>((resolve) => program.input.write(Buffer.from(bytes), (error) => resolve(error == null)))
      const gone = program.ended.then(() => false)
      if (!(await within(Promise.race([written, gone]), patience.stallMs, `read nothing for ${patience.stallMs / 1000} s`))) {
        throw await within(endOf(), patience.stallMs, 'closed its input and did not end')
      }
      sha256.update(bytes)
      sent += bytes.length
    },
    async finish() {
      program.close()
      const { status } = await within(
        program.ended,
        patience.endMs,
        `did not end within ${patience.endMs / 1000} s of the end of the archive`,
      )
      if (status !== 0) throw await endOf()
      const told = /^([0-9a-f]{64})(?:\s|$)/mu.exec(program.output)?.[1]
      if (told === undefined && asked === true) return
      if (told === undefined) {
        log.info('the program did not print the digest of what it read; only its exit status says that it took the archive', {
          program: name,
        })
      } else if (told !== sha256.digest('hex')) {
        throw new AgentError('INTEGRITY', `The program ${name} read something else than the ${sent} bytes of the archive.`, {
          subject: name,
          next: 'Remove what it stored of this run, and find out what it read.',
        })
      }
    },
    abort: () => program.kill(),
  }
}
