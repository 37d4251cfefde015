import { randomBytes } from 'node:crypto'

/** Branded ids: a claim, a job, a run and a restore point are not interchangeable strings. */
export type ClaimId = string & { readonly brand: 'ClaimId' }
export type JobId = string & { readonly brand: 'JobId' }
export type RunId = string & { readonly brand: 'RunId' }
/** One installation: one state directory, for as long as its file `agent-id` lives. */
export type AgentId = string & { readonly brand: 'AgentId' }
/** A restore point as the provider names it: the snapshot id of a restic repository, an archive's name, a directory's name. */
export type PointId = string & { readonly brand: 'PointId' }

/** Makes ids from random bytes of the composition root, so that a test can make them predictable. */
export interface Ids {
  claim(): ClaimId
  job(): JobId
  run(): RunId
  agent(): AgentId
}

/** Ids of 12 random bytes in hex: collision is out of the question, and a claim id fits in a snapshot name. */
export function createIds(random: (size: number) => Uint8Array = randomBytes): Ids {
  const next = (): string => Buffer.from(random(12)).toString('hex')
  return Object.freeze({
    claim: () => next() as ClaimId,
    job: () => next() as JobId,
    run: () => next() as RunId,
    agent: () => next() as AgentId,
  })
}
