import type { AgentId, ClaimId, Clock } from '../core/index.ts'
import { markHost } from '../core/index.ts'
import type { Journal, JournaledJob, ProcessIdentity } from '../journal/index.ts'
import type { MarkedObject } from './marked-things.ts'

/**
 * What a mark means here and now.
 * `inUse`: a living job or a valid lease holds it. `recoverable`: a job of a dead process holds it. `orphan`: ours for certain, and no job's.
 * `other`: another agent's. `unproven`: perhaps ours. `gone`: it was released while we looked.
 */
export type Standing = 'inUse' | 'recoverable' | 'orphan' | 'other' | 'unproven' | 'gone'

export type Verdict = {
  readonly standing: Standing
  /** Whether `--remove` takes it, without or with the agent named. */
  readonly removable: boolean
  /** One sentence. */
  readonly reason: string
}

export type JudgeContext = {
  readonly agent: AgentId
  /** This proxy's host name. */
  readonly host: string
  /** An agent the user named: its marks count as proven because the user says so. */
  readonly named: AgentId | undefined
  readonly journal: Journal
  /** When the search began: what was released since then was seen by a race. */
  readonly began: Date
  /** Open claims and who holds them; see `openClaims`. */
  readonly open: ReadonlyMap<ClaimId, OpenClaim>
  /** Other processes that have this installation's state directory open. */
  readonly others: readonly number[]
}

export type OpenClaim = { readonly job: JournaledJob; readonly answered: string | undefined }

/** The kind of jobs that release orphans. Their arguments name the claims of the marks they have taken over. */
export const ORPHANS_JOB = 'orphans'

/** Every claim that some open job answers for, and whether that job lives. Read after the search, so that nothing is found before it is known. */
export async function openClaims(
  journal: Journal,
  isAlive: (owner: ProcessIdentity) => Promise<boolean>,
  clock: Clock,
): Promise<ReadonlyMap<ClaimId, OpenClaim>> {
  const open = new Map<ClaimId, OpenClaim>()
  for (const job of await journal.unfinished()) {
    const leased = job.leaseUntil !== undefined && job.leaseUntil > clock.now() ? `leased until ${job.leaseUntil.toISOString()}` : undefined
    const running = job.owner !== undefined && (await isAlive(job.owner)) ? `process ${job.owner.pid} is running it` : undefined
    for (const claim of [...job.claims.map(({ id }) => id), ...adoptedBy(job)]) open.set(claim, { job, answered: leased ?? running })
  }
  return open
}

function adoptedBy({ kind, args }: JournaledJob): readonly ClaimId[] {
  if (kind !== ORPHANS_JOB || typeof args !== 'object' || args === null || !('adopted' in args) || !Array.isArray(args.adopted)) return []
  return args.adopted.map((claim: unknown) => String(claim) as ClaimId)
}

/** Whether a mark is ours, and whether what carries it may be removed. Any doubt is a no. Reads only the journal. */
export async function judgeMark(object: MarkedObject, context: JudgeContext): Promise<Verdict> {
  const { mark, claim } = object
  // A restored VM that was kept carries its mark until it has taken the place of another: its job still answers for it.
  const held = context.open.get(claim) ?? [...context.open.values()].find((open) => mark !== undefined && open.job.id === mark.job)
  if (held?.answered !== undefined) return no('inUse', `The ${held.job.kind} job ${held.job.id} holds it: ${held.answered}.`)
  if (held !== undefined)
    return no('recoverable', `The ${held.job.kind} job ${held.job.id} of a dead process holds it; "vcb recover" releases it.`)
  const released = await context.journal.releasedAt(claim)
  if (released !== undefined && released >= context.began) return no('gone', 'It was released while the search ran.')
  if (mark === undefined) return no('unproven', 'It carries no mark of an agent: an older vcb-proxy made it, or somebody named it alike.')
  const doubt = object.doubt === undefined ? undefined : `${sentence(object.doubt)}.`
  if (mark.agent !== context.agent) {
    const whose = `The vcb-proxy agent ${mark.agent} on ${mark.host} made it`
    if (context.named !== mark.agent) return no('other', `${whose}; that agent, or --agent with its id, removes it.`)
    return doubt === undefined ? yes('other', `${whose}; you named that agent.`) : no('other', doubt)
  }
  const lost = released === undefined ? await whyUnknown(context, mark.time, mark.host) : undefined
  if (lost !== undefined && context.named !== mark.agent) return no('unproven', lost)
  if (doubt !== undefined) return no('orphan', doubt)
  const why = released === undefined ? 'The journal that knew it is lost, and no process of this installation is left.' : 'No job holds it.'
  return yes('orphan', `This installation made it. ${why}`)
}

/** This agent's mark, but the journal does not know the claim: a sentence when that has another explanation than a lost journal. */
async function whyUnknown({ journal, others, host }: JudgeContext, time: string, madeOn: string): Promise<string | undefined> {
  const reaches = await journal.reachesBackTo()
  if (reaches !== undefined && new Date(time) >= reaches) {
    return 'The journal was there when it was made and does not know it: a copy of this installation made it. Name the agent with --agent to remove it all the same.'
  }
  if (others.length > 0) return `The journal that knew it is lost, and process ${others[0]} of this installation may still use it.`
  if (madeOn !== markHost(host)) {
    return `The journal that knew it is lost, and it was made on ${madeOn}, not on this host. Name the agent with --agent to remove it all the same.`
  }
  return undefined
}

const no = (standing: Standing, reason: string): Verdict => ({ standing, removable: false, reason })
const yes = (standing: Standing, reason: string): Verdict => ({ standing, removable: true, reason })
const sentence = (clause: string): string => clause.charAt(0).toUpperCase() + clause.slice(1)
