import type { PointId } from '../core/index.ts'
import { recordLocks } from '../flow/index.ts'
import type { CheckRecord } from '../history/index.ts'
import { type Problem, type RepositorySize, SLICES } from '../provider/index.ts'
import type { Agent } from './agent.ts'
import { checkedPlace, newCheckRecord, withSlice, withStructure } from './check-record.ts'

export type CheckRequest = {
  readonly point: PointId | undefined
  readonly readData: boolean
  /** Of the whole repository's data, only these parts. */
  readonly slices?: readonly number[] | undefined
}

/**
 * Verifies one point or the whole repository, as a job because it locks the repository meanwhile. None = sound. What was looked at of a repository counts for the
 * agent's own checks too.
 */
export async function runCheck(agent: Agent, { point, readData, slices = ALL }: CheckRequest): Promise<readonly Problem[]> {
  const points = await agent.points()
  const { url } = await agent.provider()
  return agent.job('check', { point: point ?? null, repository: url }, async (claims, signal) => {
    const options = { readData, signal, recordLocks: recordLocks(claims) }
    if (point !== undefined) return Array.fromAsync(points.check(point, options))
    const { checks, clock } = agent
    const keep = (change: (record: CheckRecord) => CheckRecord): Promise<CheckRecord> =>
      checks.update(checkedPlace(url), (known) => change(known ?? newCheckRecord(clock.now())))
    const problems: Problem[] = []
    const onSlice = async (read: number): Promise<void> => {
      await keep((record) =>
        withSlice(
          record,
          read,
          problems.filter(({ slice }) => slice === read),
          clock.now(),
        ),
      )
    }
    let size: RepositorySize | undefined
    const onSize = (measured: RepositorySize): void => void (size = measured)
    for await (const problem of points.check(undefined, { ...options, slices: readData ? slices : undefined, onSlice, onSize }))
      problems.push(problem)
    await keep((record) =>
      withStructure(
        record,
        problems.filter(({ slice }) => slice === undefined),
        size,
        clock.now(),
      ),
    )
    return problems
  })
}

const ALL = Array.from({ length: SLICES }, (_, slice) => slice)
