import { type Clock, systemClock } from '../src/core/index.ts'

/**
 * A clock whose pauses are `times` shorter, and durations measured by it `measured` times longer: 1 = patience is as it is, however busy the machine.
 * Wall time stays as it is.
 */
export const hurriedClock = (times: number, measured = 1): Clock => ({
  now: () => systemClock.now(),
  monotonicMs: () => systemClock.monotonicMs() * measured,
  sleep: (ms, options) => systemClock.sleep(ms / times, options),
  every: (ms, run, onError) => systemClock.every(ms / times, run, onError),
})
