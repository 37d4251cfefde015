import { execFileSync } from 'node:child_process'

/**
 * Every contestant once a round, the one that begins changing from round to round, so that a machine that gets slower or faster meanwhile is the same for all.
 * What was written before is on the disk when a turn begins, and what `reads` names (a file, or all files of a directory) is in the page cache: borg asks the kernel to forget what it has
 * read, so that whoever came after it would wait for the disk.
 */
export async function inTurns<C, T>(
  contestants: readonly C[],
  rounds: number,
  turn: (contestant: C, round: number) => Promise<T>,
  reads?: (contestant: C, round: number) => string,
): Promise<Map<C, T[]>> {
  const costs = new Map<C, T[]>(contestants.map((each) => [each, []]))
  for (let round = 0; round < rounds; round++) {
    const order = contestants.map((_, index) => contestants[(index + round) % contestants.length])
    for (const contestant of order) {
      if (contestant === undefined) continue
      execFileSync('sync')
      if (reads !== undefined) execFileSync('bash', ['-c', 'find "$0" -type f -exec cat {} + >/dev/null', reads(contestant, round)])
      costs.get(contestant)?.push(await turn(contestant, round))
    }
  }
  return costs
}
