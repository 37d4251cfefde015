import { tmpdir } from 'node:os'
import { AgentError, type PointSummary, throwIfAborted, toAgentError } from '../core/index.ts'
import { type CopiedPoint, copyOf, copyPoint, type CopyOptions } from '../flow/index.ts'
import { type BackupProvider, isOwnRepository, type PointStore, sameDestination } from '../provider/index.ts'
import type { Claims } from '../journal/index.ts'
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

type Copying = Pick<CopyRunRequest, 'wanted' | 'onPoint' | 'onProgress'> & {
  readonly dryRun?: boolean | undefined
  readonly init?: boolean | undefined
}

/** As `copyBetween`, from the repository of the configuration. USAGE also for a repository given by its URL without its password. */
export async function runCopy(agent: Agent, { to, password, ...request }: CopyRunRequest): Promise<CopyRun> {
  const named = agent.config.repositories.find(({ name }) => name === to)
  const from = await agent.provider()
  refuseItself(from, named?.url ?? to)
  if (named === undefined && isOwnRepository(to) && password.file === undefined) {
    throw new AgentError('USAGE', `No password was given for ${to}.`, {
      next: 'Give --to-password-file, or name the repository in "repositories" of vcb.yaml.',
    })
  }
  await agent.recoverFirst()
  return copyBetween(agent, from, named ?? { url: to, password }, request)
}

/**
 * Copies the points that the other repository does not hold yet, the oldest first, one after the other; the failure of one does not keep the next from
 * being copied. Throws what concerns all of them. What is copied already is found again, so that a run that was cut off goes on where it was.
 */
export async function copyBetween(
  agent: Agent,
  from: BackupProvider,
  target: { readonly url: string; readonly password: SecretSource },
  { wanted, onPoint, onProgress, dryRun = false, init = false }: Copying,
): Promise<CopyRun> {
  const { log, signal: ending } = agent
  const points = readable(from)
  refuseItself(from, target.url)
  const run = agent.ids.run()
  await using to = await agent.openRepository(target, { run, init })
  const there = await Array.fromAsync(readable(to).list({ signal: ending }))
  const all = (await Array.fromAsync(points.list({ signal: ending }))).filter((point) => wanted?.(point) ?? true)
  all.sort((a, b) => Date.parse(a.time) - Date.parse(b.time))
  const outcomes: PointOutcome[] = []
  const tell = (outcome: PointOutcome): void => {
    outcomes.push(outcome)
    onPoint?.(outcome)
  }
  const left = all.filter((point) => {
    const copy = copyOf(point, there)
    if (copy !== undefined) tell({ point, result: 'there', copy: copy.id })
    return copy === undefined
  })
  const copyOne = async (claims: Claims, point: PointSummary, signal: AbortSignal | undefined): Promise<void> => {
    try {
      const deps = { from: points, to, there, temporary: tmpdir(), log }
      const made = await copyPoint(deps, claims, point, { signal, onProgress: (at) => onProgress?.(point, at) })
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
  if (dryRun) for (const point of left) tell({ point, result: 'would copy' })
  else if (left.length > 0) {
    await agent.job('copy', { run, repository: from.url, to: to.url }, async (claims, signal) => {
      const destination = { url: to.url, run, temporary: tmpdir() }
      await claims.take('repositoryWrite', destination, [], async () => destination)
      for (const point of left) {
        throwIfAborted({ signal })
        await copyOne(claims, point, signal)
      }
    })
  }
  return { from: from.url, to: to.url, points: outcomes.toSorted((a, b) => all.indexOf(a.point) - all.indexOf(b.point)) }
}

function refuseItself({ url }: BackupProvider, target: string): void {
  if (!sameDestination(target, url)) return
  throw new AgentError('USAGE', `The points of ${url} cannot be copied into itself.`, { next: 'Name another repository with --to.' })
}

function readable({ points, url }: BackupProvider): PointStore {
  if (points !== undefined) return points
  throw new AgentError('USAGE', `${url} takes a stream; its restore points cannot be listed.`, {
    next: 'Name a repository, a directory or an archive file.',
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
