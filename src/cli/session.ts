import { Agent, createLog, loadConfig } from '../agent/index.ts'
import { systemClock } from '../core/index.ts'
import { type CliIo, createOutput, type Output } from './io.ts'
import type { CommandFlags } from './options.ts'

/** What a command's body gets: the agent, the way to print, and its flags. */
export type CommandSession = { readonly agent: Agent; readonly output: Output }

/** Opens configuration, log and agent around a command's body, and closes them in order whatever happens. */
export async function withAgent<T>(
  io: CliIo,
  flags: CommandFlags,
  body: (session: CommandSession) => Promise<T>,
  stdout?: NodeJS.WritableStream & import('node:stream').Writable,
): Promise<T> {
  const config = await loadConfig(flags, io.environment)
  await using log = createLog({ level: config.logLevel, file: config.logFile })
  await using agent = await Agent.open(config, { clock: systemClock, log, signal: io.signal, stdout })
  return await body({ agent, output: createOutput(io, flags.json === true) })
}
