import { execFileSync } from 'node:child_process'

/**
 * Every contestant once a round, the one that begins changing from round to round, so that a machine that gets slower or faster meanwhile is the same for all.
 * What was written before is on the disk when a turn begins.
 */
export async function inTurns<C, T>(
  contestants: readonly C[],
  rounds: number,
  turn: (contestant: C, round: number) => Promise<T>,
): Promise<Map<C, T[]>> {
  const costs = new Map<C, T[]>(contestants.map((each) => [each, []]))
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
