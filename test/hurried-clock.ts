import { type Clock, systemClock } from '../src/core/index.ts'

/** A clock on which everything passes `times` faster: pauses, patience, and durations measured. Wall time stays as it is. */
export const hurriedClock = (times: number): Clock => ({
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs() * times,
  sleep: (ms, options) => systemClock.sleep(ms / times, options),
  every: (ms, run, onError) => systemClock.every(ms / times, run, onError),
})
