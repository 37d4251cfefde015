import type { CutResult } from './live-cut.ts'

/** What came of the cuts of one flow, or of all. */
export type Tally = {
  readonly single: number
  readonly double: number
  /** Kills that did not come, because the run had fewer effects than the recorded one; they are judged all the same. */
  readonly missed: number
  readonly leftovers: number
  readonly wrongDigests: number
  /** Cuts without any problem. */
  readonly passed: number
  readonly failed: number
  readonly seconds: number
}

export function tallyOf(results: readonly CutResult[]): Tally {
  const count = (test: (result: CutResult) => boolean): number => results.filter(test).length
  const problems = (kind: 'leftover' | 'digest'): number =>
    results.reduce((sum, result) => sum + result.problems.filter((problem) => problem.kind === kind).length, 0)
  return {
    single: count(({ task }) => task.second === undefined),
    double: count(({ task }) => task.second !== undefined),
    missed: count(({ task, reached, secondReached }) => !reached || (task.second !== undefined && !secondReached)),
    leftovers: problems('leftover'),
    wrongDigests: problems('digest'),
    passed: count((result) => result.problems.length === 0),
    failed: count((result) => result.problems.length > 0),
    seconds: results.reduce((sum, result) => sum + result.seconds, 0),
  }
}

export const tallyText = (tally: Tally): string =>
  `cut points ${tally.single + tally.double} (single ${tally.single}, double ${tally.double}), leftovers ${tally.leftovers}, wrong digests ${tally.wrongDigests}`
