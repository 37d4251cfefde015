import { type Abortable, type Clock, isAgentError, type Log, toAgentError } from '../core/index.ts'
import { isFault } from './vim-fault.ts'

/** Pauses between tries: 1 s doubling up to a minute. ms */
const FIRST_PAUSE = 1000
const LONGEST_PAUSE = 60_000

export type Patience = Abortable & {
  readonly clock: Clock
  readonly log: Log
  /** Named in the log: a VM, a path. */
  readonly subject: string
  /** How long tries go on, ms; 0 = one try. The last try begins before this is over, never after. */
  readonly forMs: number
  /** Whether an error passes by itself, so that the same call may be made again. */
  readonly passes: (error: unknown) => boolean
}

/**
 * Does `work` again and again, with growing pauses, while its error is one that passes, for a bounded time. What is thrown in the end is always
 * the error of the last try, also when the signal cut the patience short: that is the reason, the deadline is not. `work` must be safe to repeat
 * after the errors that `passes` names.
 */
export async function patiently<T>(patience: Patience, work: () => Promise<T>): Promise<T> {
  const { clock, log, subject, forMs, signal } = patience
  const until = clock.monotonicMs() + forMs
  for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
    try {
      return await work()
    } catch (error) {
      const left = until - clock.monotonicMs()
      if (left <= 0 || signal?.aborted === true || !patience.passes(error)) throw error
      // The last pause is as long as the time that is left, so that the time given is really used.
      const wait = Math.min(pause, left)
      log.info('it cannot be done now; trying again', { subject, error: toAgentError(error).message, pause: wait })
      try {
        await clock.sleep(wait, { signal })
      } catch {
        throw error
      }
    }
  }
}

/** Faults that say "not now": the call changed nothing and may be made again. */
const NOT_NOW = [
  'TaskInProgress',
  'FileLocked',
  'ConcurrentAccess',
  'ResourceInUse',
  'CannotDeleteFile',
  'HostNotConnected',
  'HostNotReachable',
  'HostCommunication',
]

/** True for a refusal that passes and has changed nothing, so that even a call that is not idempotent may be made again. */
export const isNotNow = (error: unknown): boolean => isFault(error, ...NOT_NOW)

/**
 * True for whatever may be over in a while: refusals that pass, a vCenter or host that cannot be reached, the server's own trouble. Only for work
 * that looks at the state first, because an answer that was lost says nothing about what was done.
 */
export function passesByItself(error: unknown): boolean {
  if (isNotNow(error) || isFault(error, 'InvalidState', 'SnapshotLocked')) return true
  return isAgentError(error, 'UNAVAILABLE', 'CONFLICT') && error.retry !== 'never'
}
