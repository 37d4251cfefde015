import type { Readable } from 'node:stream'
import { openHolderLog, startHolder, type StatePlaces } from '../agent/index.ts'
import { AgentError, type ErrorCode, systemClock } from '../core/index.ts'
import type { Mounted } from '../flow/index.ts'
import type { CliIo } from './io.ts'

/** What the process that holds a lease said: what is mounted, or why not; `said` is its own line. */
export type MountAnswer =
  | { readonly mounted: Mounted }
  | { readonly mounted?: undefined; readonly error: AgentError; readonly said: string | undefined }

/** `log`: where the holder logs, as it is configured. */
export type HolderCall = {
  readonly flags: readonly string[]
  readonly words: readonly string[]
  readonly input?: Readable | undefined
  readonly log: StatePlaces
}

/**
 * Starts `vcb mount FLAGS -- WORDS` in a process of its own, which holds the lease, and waits until everything is there. When this process ends before, the other one undoes
 * everything. Called by `vcb mount` and by the VCB commands.
 */
export async function startMount(io: CliIo, { flags, words, input, log: where }: HolderCall): Promise<MountAnswer> {
  await using log = await openHolderLog(where.stateDirectory, where.logFile, { clock: systemClock })
  const own = where.logFile === undefined ? [`--holder-log=${log.path}`] : []
  const said = await startHolder(
    {
      arguments: ['mount', ...flags, '--json', '--foreground', `--caller-pid=${process.pid}`, ...own, '--', ...words],
      environment: io.environment,
      log: log.file,
      input,
    },
    { signal: io.signal },
  )
  const answer: unknown = said === undefined ? undefined : JSON.parse(said)
  return isMounted(answer) ? { mounted: answer } : { error: errorOf(answer, log.path), said }
}

const isMounted = (answer: unknown): answer is Mounted => typeof answer === 'object' && answer !== null && 'lease' in answer

/** What the holder said it failed with. */
function errorOf(answer: unknown, log: string): AgentError {
  const error = typeof answer === 'object' && answer !== null && 'error' in answer ? answer.error : undefined
  if (typeof error === 'object' && error !== null && 'code' in error && 'message' in error && 'next' in error) {
    return new AgentError(error.code as ErrorCode, String(error.message), { next: String(error.next) })
  }
  return new AgentError('UNAVAILABLE', 'The process that was to hold the lease ended before everything was there.', {
    next: `Read its log, ${log}, and run "vcb recover".`,
  })
}
