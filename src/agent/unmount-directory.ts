import type { Agent } from './agent.ts'
import { factsOf, leaseDirectory, leaseOf, MOUNT } from './lease.ts'
import { runUnmount, type Unmounted } from './unmount-run.ts'

/** The kind of job whose `told` is a directory whose lease's doubts have been told. */
const TOLD = 'vcbMounter'
/** Ended jobs that are looked through. */
const REMEMBERED = 1000

/**
 * Ends the lease that is shown in a directory, for a caller that knows no lease: `vcbMounter -U -r DIR`. One that had ended by itself before is told once, because a copy made of it must
 * not be trusted; the second call then finds nothing, so that a script that cleans up before it begins does not fail for ever. Undefined: no lease is shown there. Errors as `runUnmount`.
 */
export async function runUnmountDirectory(agent: Agent, directory: string): Promise<Unmounted | undefined> {
  const path = await leaseDirectory(directory)
  if (path === undefined) return undefined
  const lease = (await openLease(agent, path)) ?? (await untoldLease(agent, path))
  if (lease === undefined) return undefined
  const done = await runUnmount(agent, lease, { readAll: false })
  if (done.doubt !== undefined) await agent.job(TOLD, { told: path }, async () => undefined)
  return done
}

const openLease = async ({ journal }: Agent, path: string): Promise<string | undefined> =>
  (await journal.unfinished()).find((job) => leaseOf(job)?.directory === path)?.id

/** The last lease of this directory, if it ended without being unmounted and nobody was told. One that never was ready nobody can have read. */
async function untoldLease({ journal }: Agent, path: string): Promise<string | undefined> {
  const last = (await journal.finished(REMEMBERED)).find((job) => leaseOf(job)?.directory === path || toldOf(job) === path)
  if (last === undefined || last.kind !== MOUNT) return undefined
  const facts = factsOf(last.outcome)
  const ended = facts === undefined ? last.outcome.result === 'recovered' : !facts.unmounted
  return ended ? last.id : undefined
}

const toldOf = ({ kind, args }: { readonly kind: string; readonly args: unknown }): unknown =>
  kind === TOLD && typeof args === 'object' && args !== null && 'told' in args ? args.told : undefined
