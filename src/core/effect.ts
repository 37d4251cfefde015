import { channel } from 'node:diagnostics_channel'

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

// Channels are Node's own registry of names: getting one does no work and holds no state of ours.
const before = channel(EFFECT_BEFORE)
const after = channel(EFFECT_AFTER)

/**
 * The seam every effect passes. It only tells: the same `Effect` object goes to both channels, listeners run inside this call, and without any
 * (always, outside tests) it costs a property read. `npm run check` refuses effects that go past it.
 */
export async function effect<T>(what: Effect, work: () => Promise<T>): Promise<T> {
  before.publish(what)
  try {
    return await work()
  } finally {
    after.publish(what)
  }
}

/** `effect` for work that is done when it returns, as SQLite's. */
export function effectNow<T>(what: Effect, work: () => T): T {
  before.publish(what)
  try {
    return work()
  } finally {
    after.publish(what)
  }
}
