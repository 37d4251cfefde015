import type { PointId } from '../core/index.ts'
import { recordLocks } from '../flow/index.ts'
import type { Problem } from '../provider/index.ts'
import type { Agent } from './agent.ts'

/** Verifies one point or the whole repository, as a job because it locks the repository meanwhile. None = sound. */
export async function runCheck(
  agent: Agent,
  request: { readonly point: PointId | undefined; readonly readData: boolean },
): Promise<readonly Problem[]> {
  const points = await agent.points()
  const { point, readData } = request
  return agent.job('check', { point: point ?? null, repository: (await agent.provider()).url }, (claims, signal) =>
    Array.fromAsync(points.check(point, { readData, signal, recordLocks: recordLocks(claims) })),
  )
}
