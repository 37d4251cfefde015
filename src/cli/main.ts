import { CommanderError } from 'commander'
import { AgentError } from '../core/index.ts'
import { type CliIo, reportError } from './io.ts'
import { createProgram } from './program.ts'

/**
 * Entry of the `vcb` command: runs one command line and gives its exit status. Never ends the process itself.
 * With `io` given (tests) no signal handler is installed.
 */
export async function main(argv: readonly string[], io?: CliIo): Promise<number> {
  if (io !== undefined) return run(argv, io)
  const canceled = new AbortController()
  const onSignal = (signal: NodeJS.Signals): void => {
    canceled.abort(new AgentError('CANCELED', `${signal} was received; what was held is being released.`))
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, onSignal)
  // A reader that went away (`vcb points | head`) is not an error of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
  try {
    return await run(argv, {
      environment: process.env,
      out: (text) => void process.stdout.write(text),
      err: (text) => void process.stderr.write(text),
      interactive: process.stderr.isTTY === true,
      signal: canceled.signal,
    })
  } finally {
    for (const signal of signals) process.off(signal, onSignal)
  }
}

async function run(argv: readonly string[], io: CliIo): Promise<number> {
  const status = { exit: 0 }
  const program = createProgram(io, status)
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return status.exit
  } catch (error) {
    // commander has printed its own message and the hint already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    return reportError(io, error, argv.includes('--json'))
  }
}
