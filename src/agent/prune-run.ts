import { tmpdir } from 'node:os'
import { type Abortable, AgentError } from '../core/index.ts'
import { recordLocks } from '../flow/index.ts'
import type { BackupProvider, PruneReport, PruneRequest } from '../provider/index.ts'
import type { Agent } from './agent.ts'

/** The kind of the jobs that prune. */
export const PRUNE = 'prune'

export type PruneRun = PruneReport & { readonly repository: string; readonly dryRun: boolean }

/** Frees the space of forgotten points of the agent's repository, as one job; needs no vCenter. Errors as `PointStore.prune`, USAGE where there is nothing to prune. */
export async function runPrune(agent: Agent, request: PruneRequest): Promise<PruneRun> {
  if (request.dryRun !== true) await agent.recoverFirst()
  const run = agent.ids.run()
  await using provider = await agent.openProvider({ run })
  return await pruneIn(agent, provider, run, request, { signal: agent.signal })
}

/** The same for a repository opened for this `run`, which what a killed prune half wrote is found by. */
export async function pruneIn(
  agent: Agent,
  provider: BackupProvider,
  run: ReturnType<Agent['ids']['run']>,
  request: PruneRequest,
  options: Abortable,
): Promise<PruneRun> {
  const { points, url } = provider
  if (points?.prune === undefined) {
    throw new AgentError('USAGE', `What is in ${url} is not pruned: the space of a point that is forgotten is free at once.`, {
      next: 'Name a restic repository.',
    })
  }
  const prune = points.prune.bind(points)
  const begun = agent.clock.now()
  const dryRun = request.dryRun === true
  const report = await agent.job(PRUNE, { repository: url, run, dryRun }, async (claims, signal) => {
    if (!dryRun) {
      const destination = { url, run, temporary: tmpdir() }
      await claims.take('repositoryWrite', destination, [], async () => destination)
    }
    return await prune(request, { signal: signal ?? options.signal, recordLocks: recordLocks(claims) })
  })
  if (!dryRun) await agent.prunes.note(url, begun)
  const { packs, bytes, until } = report.kept
  if (packs > 0) agent.log.info('packs are kept by the server', { repository: url, packs, bytes, until })
  agent.log.info(dryRun ? 'a prune was planned' : 'a repository was pruned', {
    repository: url,
    freedBytes: report.freedBytes,
    repackedBytes: report.repacked.bytes,
    unusedBytes: report.unusedAfterBytes,
  })
  return { ...report, repository: url, dryRun }
}
