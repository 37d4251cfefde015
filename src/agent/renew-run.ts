import { type Abortable, AgentError, isAgentError } from '../core/index.ts'
import { recordLocks } from '../flow/index.ts'
import type { BackupProvider, RenewReport, RenewRequest, ShortSnapshot } from '../provider/index.ts'
import type { Agent } from './agent.ts'
import { checkedPlace } from './check-record.ts'

/** The kind of the jobs that make Object Locks longer. */
const RENEWAL = 'renew-locks'

export type RenewRun = RenewReport & { readonly repository: string; readonly dryRun: boolean }

/** Has the agent's repository keep what its points need as long as them, as one job; needs no vCenter. Errors as `PointStore.renewLocks`, USAGE where nothing is kept so. */
export async function runRenewal(agent: Agent, request: RenewRequest): Promise<RenewRun> {
  if (request.dryRun !== true) await agent.recoverFirst()
  await using provider = await agent.openProvider()
  const run = await renewIn(agent, provider, request, { signal: agent.signal })
  if (run === undefined) throw new AgentError('INTERNAL', 'A renewal of locks was left out that nobody else has done.')
  return run
}

/** Points that need what is kept shorter than they are to be; none where nothing is kept by Object Lock, or the key pair may not ask. */
export async function shortPoints(agent: Agent): Promise<readonly ShortSnapshot[]> {
  const provider = await agent.provider()
  if (provider.points?.renewLocks === undefined) return []
  try {
    return (await renewIn(agent, provider, { dryRun: true }, { signal: agent.signal }))?.short ?? []
  } catch (error) {
    if (!isAgentError(error, 'CONFIG')) throw error
    agent.log.warn('nobody can tell how long the bucket keeps what points need', { repository: provider.url, error: error.message })
    return []
  }
}

const lastOf = async ({ renewals }: Agent, place: string): Promise<number> => Date.parse((await renewals.all()).get(place)?.renewedAt ?? '')

/** The same for an open repository; undefined, with nothing done, where another one has done it that began at `unlessSince` (ms since 1970) or later. */
export async function renewIn(
  agent: Agent,
  provider: BackupProvider,
  request: RenewRequest & { readonly unlessSince?: number | undefined },
  options: Abortable,
): Promise<RenewRun | undefined> {
  const { points, url } = provider
  const renew = points?.renewLocks
  if (renew === undefined) {
    throw new AgentError('USAGE', `What is in ${url} is not kept by Object Lock.`, {
      next: 'Name a bucket whose entry in vcb.yaml has s3.objectLock.',
    })
  }
  const { clock, log, renewals } = agent
  const dryRun = request.dryRun === true
  const begun = clock.now()
  const place = checkedPlace(url)
  // Of all that count together one at a time: servers have been seen that mix up two who make one lock longer at once.
  const renewalsOf = agent.buckets.tokens(`renewal ${place}`, `renewals of the locks of ${place}`, 1)
  await using _token = dryRun ? undefined : await renewalsOf.take({ ...options, holder: 'vcb renew-locks' })
  if (request.unlessSince !== undefined && (await lastOf(agent, place)) >= request.unlessSince) return undefined
  try {
    const report = await agent.job(RENEWAL, { repository: url, dryRun }, (claims, signal) =>
      renew(request, { signal: signal ?? options.signal, recordLocks: recordLocks(claims) }),
    )
    const { snapshots, asked, lengthened, short } = report
    if (!dryRun) await renewals.renewed(place, begun, short.length)
    log.info(dryRun ? 'a renewal of locks was planned' : 'the locks of a repository were renewed', {
      repository: url,
      points: snapshots,
      asked,
      lengthened,
      short: short.length,
    })
    return { ...report, repository: url, dryRun }
  } catch (error) {
    // What passes by itself is no news; it comes again.
    if (!dryRun && isAgentError(error) && error.code !== 'CONFLICT' && error.code !== 'CANCELED')
      await renewals.failed(place, clock.now(), error.message)
    throw error
  }
}
