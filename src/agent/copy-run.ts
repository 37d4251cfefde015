import { tmpdir } from 'node:os'
import { AgentError, type PointSummary, throwIfAborted, toAgentError } from '../core/index.ts'
import { type CopiedPoint, copyOf, copyPoint, type CopyOptions } from '../flow/index.ts'
import { type BackupProvider, isOwnRepository, type PointStore, sameDestination } from '../provider/index.ts'
import type { Agent } from './agent.ts'
import type { SecretSource } from './config/secret-source.ts'

export type CopyRunRequest = {
  /** The name of one of `repositories`, or a URL. */
  readonly to: string
  /** For a URL. */
  readonly password: SecretSource
  /** Which of the repository's points; all when it says nothing. */
  readonly wanted?: ((point: PointSummary) => boolean) | undefined
  readonly dryRun: boolean
  /** Makes the other repository where there is none. */
  readonly init: boolean
  readonly onPoint?: ((outcome: PointOutcome) => void) | undefined
  readonly onProgress?: ((point: PointSummary, at: Parameters<NonNullable<CopyOptions['onProgress']>>[0]) => void) | undefined
}

/** What became of one point. `there`: it was copied before. */
export type PointOutcome = { readonly point: PointSummary } & (
  | { readonly result: 'there'; readonly copy: string }
  | { readonly result: 'would copy' }
  | { readonly result: 'copied'; readonly copy: string; readonly readBytes: number; readonly storedBytes: number }
  | { readonly result: 'failed'; readonly error: AgentError }
)

export type CopyRun = { readonly from: string; readonly to: string; readonly points: readonly PointOutcome[] }

/**
 * Copies the points that the other repository does not hold yet, the oldest first, one after the other; the failure of one does not keep the next from
 * being copied. Throws what concerns all of them. What is copied already is found again, so that a run that was cut off goes on where it was.
 */
export async function runCopy(agent: Agent, request: CopyRunRequest): Promise<CopyRun> {
  const { log } = agent
  const source = await agent.provider()
  const points = await agent.points()
  const named = agent.config.repositories.find(({ name }) => name === request.to)
  const target = named ?? { url: request.to, password: request.password }
  if (sameDestination(target.url, source.url)) {
    throw new AgentError('USAGE', `The points of ${source.url} cannot be copied into itself.`, {
      next: 'Name another repository with --to.',
    })
  }
  if (named === undefined && isOwnRepository(target.url) && target.password.file === undefined) {
    throw new AgentError('USAGE', `No password was given for ${target.url}.`, {
      next: 'Give --to-password-file, or name the repository in "repositories" of vcb.yaml.',
    })
  }
  await agent.recoverFirst()
  const run = agent.ids.run()
  await using to = await agent.openRepository(target, { run, init: request.init })
  const store = readable(to)
  const there = await Array.fromAsync(store.list({ signal: agent.signal }))
  const all = (await Array.fromAsync(points.list({ signal: agent.signal }))).filter((point) => request.wanted?.(point) ?? true)
  all.sort((a, b) => Date.parse(a.time) - Date.parse(b.time))
  const outcomes: PointOutcome[] = []
  const tell = (outcome: PointOutcome): void => {
    outcomes.push(outcome)
    request.onPoint?.(outcome)
  }
  if (request.dryRun) {
    for (const point of all) {
      const copy = copyOf(point, there)
      tell(copy === undefined ? { point, result: 'would copy' } : { point, result: 'there', copy: copy.id })
    }
    return { from: source.url, to: to.url, points: outcomes }
  }
  await agent.job('copy', { run, repository: source.url, to: to.url }, async (claims, signal) => {
    const destination = { url: to.url, run, temporary: tmpdir() }
    await claims.take('repositoryWrite', destination, [], async () => destination)
    for (const point of all) {
      throwIfAborted({ signal })
      const copy = copyOf(point, there)
      if (copy !== undefined) {
        tell({ point, result: 'there', copy: copy.id })
        continue
      }
      try {
        const onProgress: CopyOptions['onProgress'] = (at) => request.onProgress?.(point, at)
        const made = await copyPoint({ from: points, to, there, temporary: tmpdir(), log }, claims, point, { signal, onProgress })
        const summary = summaryOf(point, to, made)
        there.push(summary)
        await record(agent, summary)
        tell({ point, result: 'copied', copy: made.id, readBytes: made.readBytes, storedBytes: made.storedBytes })
      } catch (error) {
        throwIfAborted({ signal })
        log.error('a point was not copied', { point: point.id, to: to.url, error: toAgentError(error).message })
        tell({ point, result: 'failed', error: toAgentError(error) })
      }
    }
  })
  return { from: source.url, to: to.url, points: outcomes }
}

function readable(to: BackupProvider): PointStore {
  if (to.points !== undefined) return to.points
  throw new AgentError('USAGE', `${to.url} takes a stream; what is there already cannot be listed.`, {
    next: 'Name a repository, a directory or an archive file with --to.',
  })
}

const summaryOf = (point: PointSummary, to: BackupProvider, made: CopiedPoint): PointSummary => ({
  ...point,
  id: made.id,
  repository: to.url,
  storedBytes: made.storedBytes,
  needs: undefined,
  tags: undefined,
})

/** The catalog is a convenience: the copy exists whether or not it could be written there. */
async function record({ catalog, log }: Agent, summary: PointSummary): Promise<void> {
  try {
    await catalog.add(summary)
  } catch (error) {
    log.warn('a point is copied but the catalog could not be written', { point: summary.id, error: toAgentError(error).message })
  }
}
