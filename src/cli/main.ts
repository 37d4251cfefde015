import { CommanderError } from 'commander'
import { systemClock } from '../core/index.ts'
import { type CliIo, reportError } from './io.ts'
import { createProgram } from './program.ts'
import { listenToSignals } from './signals.ts'

/**
 * Entry of the `vcb` command: runs one command line and gives its exit status. Never ends the process itself.
 * With `io` given (tests) no signal handler is installed.
 */
export function main(argv: readonly string[], io?: CliIo): Promise<number> {
  return io === undefined ? inProcess((own) => run(argv, own)) : run(argv, io)
}

/** The same of one of the VCB commands (`vcbVmName`, `vcbMounter`, ...). */
export async function tool(name: string, argv: readonly string[], io?: CliIo): Promise<number> {
  const { runTool } = await import('./vcb/run-tool.ts')
  return io === undefined ? inProcess((own) => runTool(name, argv, own)) : runTool(name, argv, io)
}

/** Works with the process's own streams and signals. */
async function inProcess(work: (io: CliIo) => Promise<number>): Promise<number> {
  // A reader that went away (`vcb points | head`) or a terminal that was closed is not an error of ours.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error
    })
  }
  const err = (text: string): void => void process.stderr.write(text)
  using signals = listenToSignals(systemClock, err)
  const status = await work({
    environment: process.env,
    out: (text) => void process.stdout.write(text),
    err,
    interactive: process.stderr.isTTY === true,
    signal: signals.canceled,
    giveUp: signals.giveUp,
    onHangup: signals.onHangup,
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
