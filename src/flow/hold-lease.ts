import { type Clock, toAgentError } from '../core/index.ts'
import type { ProcessIdentity } from '../journal/index.ts'

/** How often the signs of life are looked at, ms. */
const LOOK_MS = 500
/** A product that is restarted in place, or hands over to a child, gets so long, ms. */
const GRACE_MS = 2000

/** Why a lease ended. `request`: somebody, or a signal, asked for it; `broken`: what it reads cannot be kept any longer; `lost`: what it shows cannot be read any more. */
export type LeaseEnd = { readonly by: 'request' | 'deadline' | 'owner' | 'idle' | 'broken' | 'lost'; readonly reason: string }

export type LeaseWatch = {
  readonly clock: Clock
  /** `Clock.monotonicMs` of the deadline. */
  readonly untilMs: number
  /** The process the lease is for; it ends when that has ended. */
  readonly owner: ProcessIdentity | undefined
  readonly isAlive: (process: ProcessIdentity) => Promise<boolean>
  /** Without an owner the lease ends after so long without a read, ms; undefined = never. */
  readonly idleMs: number | undefined
  /** `Clock.monotonicMs` of the last read; undefined before the first. */
  readonly lastUsedMs: () => number | undefined
  /** Whether some process has a file of it open; asked only when it would end for being idle. */
  readonly isOpen: () => Promise<boolean>
  /** Aborts when the lease is to end. */
  readonly signal: AbortSignal | undefined
  /** Aborts when what is read cannot be kept: a datastore runs full, the lock of a repository is lost. */
  readonly broken: AbortSignal | undefined
  /** Why nobody can read it any more, though it was not ended here: one sentence. */
  readonly lost: () => Promise<string | undefined>
}

/** Waits until a lease ends, and says why. Called once per lease, after everything is there. Never throws for an abort: that is an end like any other. */
export async function holdLease(watch: LeaseWatch): Promise<LeaseEnd> {
  const { clock, owner, signal, broken, idleMs, untilMs } = watch
  let usedMs = clock.monotonicMs()
  let goneMs: number | undefined
  const stop = AbortSignal.any([signal, broken].filter((each) => each !== undefined))
  for (;;) {
    // Before all else: who asks for the end may have copied what was not there any more.
    const lost = await watch.lost()
    if (lost !== undefined) return { by: 'lost', reason: lost }
    if (signal?.aborted === true) return { by: 'request', reason: toAgentError(signal.reason).message }
    if (broken?.aborted === true) return { by: 'broken', reason: toAgentError(broken.reason).message }
    const now = clock.monotonicMs()
    if (now >= untilMs) return { by: 'deadline', reason: 'The time for which it was given had passed.' }
    if (owner !== undefined && !(await watch.isAlive(owner))) {
      goneMs ??= now
      if (now - goneMs >= GRACE_MS) return { by: 'owner', reason: `Its owner, process ${owner.pid}, had ended.` }
    }
    usedMs = Math.max(usedMs, watch.lastUsedMs() ?? usedMs)
    if (owner === undefined && idleMs !== undefined && now - usedMs >= idleMs) {
      if (!(await watch.isOpen())) return { by: 'idle', reason: `Nobody had read anything for ${Math.round(idleMs / 1000)} s.` }
      usedMs = now
    }
    try {
      await clock.sleep(Math.min(LOOK_MS, untilMs - now), { signal: stop })
    } catch (error) {
      if (!stop.aborted) throw error
    }
  }
}

/** Aborts as soon as the process has ended: for work that is done for it alone. Disposed when that is over. */
export function endsWith(
  owner: ProcessIdentity,
  { clock, isAlive }: Pick<LeaseWatch, 'clock' | 'isAlive'>,
  ended: (owner: ProcessIdentity) => Error,
  onError: (error: unknown) => void,
): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController()
  const watch = clock.every(
    LOOK_MS,
    async () => {
      if (!(await isAlive(owner))) controller.abort(ended(owner))
    },
    onError,
  )
  return { signal: controller.signal, [Symbol.dispose]: () => watch[Symbol.dispose]() }
}

/** Aborts at a moment of `Clock.monotonicMs`: a lease that cannot be ready before its end is none. Disposed when it is ready. */
export function endsAt(untilMs: number, clock: Clock, ended: Error): Disposable & { readonly signal: AbortSignal } {
  const late = new AbortController()
  const over = new AbortController()
  const wait = async (): Promise<void> => {
    try {
      await clock.sleep(untilMs - clock.monotonicMs(), { signal: over.signal })
    } catch {
      // Ready in time.
      return
    }
    late.abort(ended)
  }
  void wait()
  return { signal: late.signal, [Symbol.dispose]: () => over.abort() }
}
