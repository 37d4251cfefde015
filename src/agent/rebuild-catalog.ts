import { AgentError, isAgentError, toAgentError } from '../core/index.ts'
import { recordLocks } from '../flow/index.ts'
import type { Agent } from './agent.ts'
import type { NamedRepository } from './config/repositories.ts'
import { repositoryForJob } from './job-config.ts'

export type RebuiltRepository = {
  readonly name: string
  readonly url: string
} & (
  | { readonly points: number; readonly added: number; readonly removed: number; readonly error?: undefined }
  | { readonly error: AgentError }
)

/**
 * Makes the catalog know of each repository what is in it, no more and no less: after the state was lost, on a new proxy, or when somebody else removed points.
 * A repository that fails does not stop the others, and its part of the catalog stays as it was. `one`: only the general repository. Errors: CANCELED, USAGE (no
 * repository).
 */
export async function rebuildCatalog(agent: Agent, { one }: { readonly one: boolean }): Promise<readonly RebuiltRepository[]> {
  const { config } = agent
  const repositories = one ? [repositoryForJob(config, undefined)] : config.repositories
  if (repositories.length === 0)
    throw new AgentError('USAGE', 'No repository was given.', { next: 'Give --repo, or set repository or repositories in vcb.yaml.' })
  const rebuilt: RebuiltRepository[] = []
  for (const repository of repositories) {
    try {
      rebuilt.push(await rebuildOne(agent, repository))
    } catch (error) {
      if (isAgentError(toAgentError(error), 'CANCELED', 'INTERNAL')) throw error
      rebuilt.push({ name: repository.name, url: repository.url, error: toAgentError(error) })
    }
  }
  return rebuilt
}

async function rebuildOne(agent: Agent, repository: NamedRepository): Promise<RebuiltRepository> {
  await using provider = await agent.openRepository(repository)
  const { points, url } = provider
  if (points === undefined) {
    throw new AgentError('CONFIG', `What is in ${url} cannot be listed.`, {
      subject: url,
      next: 'Its points are only known to the catalog and to the program that took them.',
    })
  }
  return await agent.job('catalog', { repository: url }, async (claims, signal) => {
    // Nothing is forgotten meanwhile, so that what is listed is there.
    await using hold = await points.hold({ signal, recordLocks: recordLocks(claims) })
    let count = 0
    const listed = async function* () {
      for await (const point of points.list({ signal })) {
        hold.signal?.throwIfAborted()
        count++
        yield point
      }
    }
    const changed = await agent.catalog.rebuild(url, listed())
    return { name: repository.name, url, points: count, ...changed }
  })
}
