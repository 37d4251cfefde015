import { execFileSync } from 'node:child_process'
import type { Contestant } from './contestants.ts'
import type { Cost } from './measure.ts'

/**
 * Every contestant once a round, the one that begins changing from round to round, so that a machine that gets slower or faster meanwhile is the same for all.
 * What was written before is on the disk when a turn begins.
 */
export async function inTurns<C extends Contestant>(
  contestants: readonly C[],
  rounds: number,
  turn: (contestant: C, round: number) => Promise<Cost>,
): Promise<Map<C, Cost[]>> {
  const costs = new Map<C, Cost[]>(contestants.map((each) => [each, []]))
  for (let round = 0; round < rounds; round++) {
    const order = contestants.map((_, index) => contestants[(index + round) % contestants.length])
    for (const contestant of order) {
      if (contestant === undefined) continue
      execFileSync('sync')
      costs.get(contestant)?.push(await turn(contestant, round))
    }
  }
  return costs
}
