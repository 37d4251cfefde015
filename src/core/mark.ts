import type { Clock } from './clock.ts'
import type { AgentId, ClaimId, JobId } from './ids.ts'

/** Who made something outside this process, and for which claim: what proves later, even without a journal, whose it is. */
export type Mark = {
  readonly agent: AgentId
  readonly claim: ClaimId
  readonly job: JobId
  /** Host name of the proxy, as `markHost` writes it. */
  readonly host: string
  /** The process that made it. */
  readonly pid: number
  /** ISO 8601, UTC. */
  readonly time: string
}

/**
 * What carries a mark: a snapshot in its description, a VM being restored in its annotation, a datastore directory in a file, a disk attached to a
 * proxy VM in an entry of that VM's extraConfig.
 */
export type MarkedThing = 'snapshot' | 'vm' | 'directory' | 'disk'

/** Writes marks. Made once by the composition root, which knows who it is. */
export interface Marks {
  readonly agent: AgentId
  /** The text for one thing made under a claim, with the time of the call. */
  text(thing: MarkedThing, job: JobId, claim: ClaimId): string
}

/** What a person reads; part of the format of version 1. */
const SENTENCES: Readonly<Record<MarkedThing, string>> = {
  snapshot: 'Made by vcb-proxy for a backup; removed when the disks have been read.',
  vm: 'Being restored by vcb-proxy; not complete, do not use.',
  disk: 'Attached by vcb-proxy; detached when it has been read or written.',
  directory: 'Files of a VM that vcb-proxy is restoring; removed with it when the restore fails.',
}

/** No text of ours is longer. Characters. */
const LONGEST = 600
const ID = '[0-9a-f]{24}'
const FIELDS = new RegExp(
  `^vcb-proxy/1 agent=(${ID}) claim=(${ID}) job=(${ID}) host=([A-Za-z0-9._-]{1,63}) pid=([1-9]\\d{0,9}) time=(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z)$`,
)

export function createMarks(origin: {
  readonly agent: AgentId
  readonly host: string
  readonly pid: number
  readonly clock: Clock
}): Marks {
  const { agent, pid, clock } = origin
  const host = markHost(origin.host)
  return Object.freeze({
    agent,
    text: (thing: MarkedThing, job: JobId, claim: ClaimId) =>
      formatMark(thing, { agent, claim, job, host, pid, time: clock.now().toISOString() }),
  })
}

/** One line: a sentence for people, then `vcb-proxy/1 agent=… claim=… job=… host=… pid=… time=…`. */
export const formatMark = (thing: MarkedThing, mark: Mark): string =>
  `${SENTENCES[thing]} vcb-proxy/1 agent=${mark.agent} claim=${mark.claim} job=${mark.job} host=${mark.host} pid=${mark.pid} time=${mark.time}`

/**
 * The mark that `text` is; undefined for anything that `formatMark` would not write again character by character: what a user copied, extended
 * or named alike is not ours. Text of strangers, so bounded.
 */
export function parseMark(thing: MarkedThing, text: string): Mark | undefined {
  const start = `${SENTENCES[thing]} `
  if (text.length > LONGEST || !text.startsWith(start)) return undefined
  const [, agent, claim, job, host, pid, time] = FIELDS.exec(text.slice(start.length)) ?? []
  if (agent === undefined || claim === undefined || job === undefined || host === undefined || time === undefined) return undefined
  const mark = { agent: agent as AgentId, claim: claim as ClaimId, job: job as JobId, host, pid: Number(pid), time }
  return isTime(time) ? mark : undefined
}

/** A host name as marks carry it: at most 63 letters, digits, `.`, `_` and `-`. */
export const markHost = (name: string): string => name.replaceAll(/[^A-Za-z0-9._-]/g, '_').slice(0, 63) || '_'

/** A day and hour that exist, so that the 31st of February is nobody's mark. */
function isTime(text: string): boolean {
  const time = new Date(text)
  return !Number.isNaN(time.getTime()) && time.toISOString() === text
}
