import { AgentError } from './errors.ts'

/** Last parameter of every call that may take long. Clean-up calls never get the caller's signal. */
export type Abortable = { readonly signal?: AbortSignal | undefined }

/** Throws the reason of an aborted signal (an AgentError as it is, anything else as CANCELED). */
export function throwIfAborted(options?: Abortable): void {
  const signal = options?.signal
  if (signal?.aborted !== true) return
  throw signal.reason instanceof AgentError ? signal.reason : new AgentError('CANCELED', 'The work was canceled.', { cause: signal.reason })
}

/** A signal that aborts when any of the given ones does; undefined ones are ignored. */
export function anySignal(...signals: readonly (AbortSignal | undefined)[]): AbortSignal | undefined {
  const present = signals.filter((signal) => signal !== undefined)
  return present.length === 0 ? undefined : present.length === 1 ? present[0] : AbortSignal.any(present)
}

/** The result of `work`, unless `signal` aborts first: then its reason, and `work` goes on with nobody waiting for it. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = (): void => reject(signal.reason)
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
