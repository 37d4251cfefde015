import { type Agent, loadConfig, type LogSettings, openAgent, openLog } from '../agent/index.ts'
import { type Clock, systemClock, unlessAborted } from '../core/index.ts'
import { type CliIo, createOutput, type Output } from './io.ts'
import type { CommandFlags } from './options.ts'

/** What a command's body gets: the agent, the way to print, and its flags. */
export type CommandSession = { readonly agent: Agent; readonly output: Output }

/** After the user gave up, releases have two seconds to stop; what then still runs is left alone. ms */
const PATIENCE = 4000

/** Opens configuration, log and agent around a command's body, and closes them in order whatever happens. */
export async function withAgent<T>(
  io: CliIo,
  flags: CommandFlags,
  body: (session: CommandSession) => Promise<T>,
  stdout?: NodeJS.WritableStream & import('node:stream').Writable,
  { kind, ...logged }: Partial<LogSettings> & { readonly kind?: 'agent' } = {},
): Promise<T> {
  const { giveUp } = io
  const config = await loadConfig(flags, io.environment)
  const onTrouble = (message: string): void => io.err(`vcb: ${message}\n`)
  await using log = await openLog({ level: config.logLevel, file: config.logFile, bounded: config.logBounds, onTrouble, ...logged })
  using patience = patienceAfter(giveUp, systemClock)
  const agent = await openAgent(config, { clock: systemClock, log, signal: io.signal, giveUp, stdout, kind })
  try {
    return await unlessAborted(body({ agent, output: createOutput(io, flags.json === true) }), patience.over)
  } catch (error) {
    if (patience.over.aborted) throw (await agent.abandonJobs(error)) ?? error
    throw error
  } finally {
    await closed(agent, patience.over)
  }
}

/** Closes the agent, unless nobody waits any more. */
async function closed(agent: Agent, over: AbortSignal): Promise<void> {
  try {
    await unlessAborted(agent[Symbol.asyncDispose](), over)
  } catch (error) {
    if (!over.aborted) throw error
  }
}

/** `over` aborts a few seconds after `giveUp` did. */
function patienceAfter(giveUp: AbortSignal | undefined, clock: Clock): Disposable & { readonly over: AbortSignal } {
  const over = new AbortController()
  const ended = new AbortController()
  const wait = async (): Promise<void> => {
    try {
      await clock.sleep(PATIENCE, { signal: ended.signal })
    } catch {
      // Everything ended in time.
      return
    }
    over.abort(giveUp?.reason)
  }
  giveUp?.addEventListener('abort', () => void wait(), { once: true, signal: ended.signal })
  return { over: over.signal, [Symbol.dispose]: () => ended.abort() }
}
