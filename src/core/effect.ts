import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel'

/**
 * Something this process is about to change outside itself: a SOAP call that changes something, an upload, a change to a local file, a
 * transaction in the state database, a process started. What is only read is none, and neither is a log line.
 */
export type Effect = {
  readonly kind: 'call' | 'upload' | 'file' | 'row' | 'process'
  /** What is done, without ids, so that two runs of one flow name it alike: `CreateSnapshot_Task`, `write`, `claim intended`. */
  readonly what: string
  /** What it is done to: a managed object, a path. Differs from run to run. */
  readonly on: string
}

/** Listeners of these channels see every effect of the process, in order, just before it starts and just after it ended or failed. */
export const EFFECT_BEFORE = 'vcb.effect.before'
export const EFFECT_AFTER = 'vcb.effect.after'
const EFFECT_FENCE = 'vcb.effect.fence'

// Channels are Node's own registry of names: getting one does no work and holds no state of ours.
const before = channel(EFFECT_BEFORE)
const after = channel(EFFECT_AFTER)
const fence = channel(EFFECT_FENCE)

type FenceQuestion = { readonly effect: Effect; refusal: Error | undefined }

/**
 * From now on, until disposed, each effect of the process is asked for first, and not begun when there is a refusal: that is thrown in its place, and
 * nothing is told to the other channels. For a process that must stop because others take over what it holds. `refusal` must not throw.
 */
export function fenceEffects(refusal: (effect: Effect) => Error | undefined): Disposable {
  const answer = (message: unknown): void => {
    const question = message as FenceQuestion
    question.refusal ??= refusal(question.effect)
  }
  subscribe(EFFECT_FENCE, answer)
  return { [Symbol.dispose]: () => void unsubscribe(EFFECT_FENCE, answer) }
}

function throwIfFenced(what: Effect): void {
  if (!fence.hasSubscribers) return
  const question: FenceQuestion = { effect: what, refusal: undefined }
  fence.publish(question)
  if (question.refusal !== undefined) throw question.refusal
}

/**
 * The seam every effect passes. It tells, and asks where a fence was put up: the same `Effect` object goes to both channels, listeners run inside this call,
 * and without any (always, outside tests, on a proxy that works alone) it costs two property reads. `npm run check` refuses effects that go past it.
 */
export async function effect<T>(what: Effect, work: () => Promise<T>): Promise<T> {
  throwIfFenced(what)
  before.publish(what)
  try {
    return await work()
  } finally {
    after.publish(what)
  }
}

/** `effect` for work that is done when it returns, as SQLite's. */
export function effectNow<T>(what: Effect, work: () => T): T {
  throwIfFenced(what)
  before.publish(what)
  try {
    return work()
  } finally {
    after.publish(what)
  }
}
