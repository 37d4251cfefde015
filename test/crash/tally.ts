import type { CutResult } from './live-cut.ts'

/** What came of the cuts of one flow, or of all. */
export type Tally = {
  /** Cut points of single kills: every effect, before and after. */
  readonly single: number
  readonly double: number
  /** Kills that did not come, because the run had fewer effects than the recorded one; they are judged all the same. */
  readonly missed: number
  readonly leftovers: number
  readonly wrongDigests: number
  /** Lives without any problem, of which one may be two cut points. */
  readonly passed: number
  readonly failed: number
  readonly seconds: number
}

export function tallyOf(results: readonly CutResult[]): Tally {
  const count = (test: (result: CutResult) => boolean): number => results.filter(test).length
  const problems = (kind: 'leftover' | 'digest'): number =>
    results.reduce((sum, result) => sum + result.problems.filter((problem) => problem.kind === kind).length, 0)
  return {
    single: count(({ task }) => task.second === undefined) + count(({ task }) => task.second === undefined && task.both === true),
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
