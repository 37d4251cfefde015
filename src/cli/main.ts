import { CommanderError } from 'commander'
import { systemClock } from '../core/index.ts'
import { type CliIo, reportError } from './io.ts'
import { createProgram } from './program.ts'
import { listenToSignals } from './signals.ts'

/**
 * Entry of the `vcb` command: runs one command line and gives its exit status. Never ends the process itself.
 * With `io` given (tests) no signal handler is installed.
 */
export async function main(argv: readonly string[], io?: CliIo): Promise<number> {
  if (io !== undefined) return run(argv, io)
  // A reader that went away (`vcb points | head`) or a terminal that was closed is not an error of ours.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error
    })
  }
  const err = (text: string): void => void process.stderr.write(text)
  using signals = listenToSignals(systemClock, err)
  const status = await run(argv, {
    environment: process.env,
    out: (text) => void process.stdout.write(text),
    err,
    interactive: process.stderr.isTTY === true,
    signal: signals.canceled,
    giveUp: signals.giveUp,
  })
  // Whatever work did not stop when it was told to must not go on behind a command that has said its last word.
  if (signals.giveUp.aborted) process.exit(status)
  return status
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
