/* Preloaded into a vcb process (`node --import`): its wall clock steps every 200 ms, by a year, by an hour, back and forth, starting with STEP_FIRST. */
const DAY = 24 * 3_600_000
const STEPS = [Number(process.env['STEP_FIRST'] ?? '0'), -365 * DAY, 3_600_000, -2 * 3_600_000, 365 * DAY, 0]
const Real = Date
const offset = (): number => STEPS[Math.floor(performance.now() / 200) % STEPS.length] ?? 0

class Stepping extends Real {
  constructor(...args: readonly [] | readonly [string | number | Date]) {
    if (args[0] === undefined) super(Real.now() + offset())
    else super(args[0])
  }
  static override now(): number {
    return Real.now() + offset()
  }
}
Object.defineProperty(globalThis, 'Date', { value: Stepping })
