import { beforeEach, describe, expect, it } from 'vitest'
import { type ClaimId, type Clock, createIds, type Mark, systemClock } from '../core/index.ts'
import { MemoryJournal } from '../journal/index.ts'
import { judgeMark, openClaims, ORPHANS_JOB, type JudgeContext } from './judge-mark.ts'
import type { MarkedObject } from './marked-things.ts'

const HOUR = 3_600_000
const ids = createIds()
const agent = ids.agent()
const self = { pid: 100, bootId: 'boot', startTime: 1 }
let time = Date.UTC(2026, 10, 22, 12)
const clock: Clock = { ...systemClock, now: () => new Date(time++) }
let journal: MemoryJournal

beforeEach(() => {
  journal = new MemoryJournal(clock, ids, self)
})

const object = (claim: ClaimId, changed: Partial<Mark> | null = {}, doubt?: string): MarkedObject => ({
  mark:
    changed === null ? undefined : { agent, claim, job: ids.job(), host: 'proxy1', pid: 7, time: new Date(time).toISOString(), ...changed },
  claim,
  name: `vcb-proxy ${claim}`,
  path: '/DC1/vm/web',
  since: undefined,
  bytes: undefined,
  doubt,
  what: { kind: 'vm', moref: 'vm-1', vmPathName: '' },
})

const judge = async (one: MarkedObject, changed: Partial<JudgeContext> & { readonly alive?: boolean } = {}) => {
  const open = await openClaims(journal, async () => changed.alive ?? false, clock)
  return judgeMark(one, { agent, host: 'proxy1', named: undefined, journal, began: new Date(time + HOUR), open, others: [], ...changed })
}

/** A claim of an open job, or of one that was closed. */
const claimOf = async (closed: boolean, kind = 'backup', args: unknown = {}, lease?: Date): Promise<ClaimId> => {
  const job = await journal.begin(kind, args, lease)
  const claim = await journal.intend(job, 'snapshot', {}, [])
  if (closed) {
    await journal.released(claim)
    await journal.finish(job, { result: 'succeeded' })
  }
  return claim
}

describe('a mark of this agent', () => {
  it('whose claim a job holds is in use while the job lives or its lease is valid, and left to recovery after that', async () => {
    const claim = await claimOf(false)
    expect(await judge(object(claim), { alive: true })).toMatchObject({ standing: 'inUse', removable: false })
    expect(await judge(object(claim))).toMatchObject({ standing: 'recoverable', removable: false })
    const leased = await claimOf(false, 'mount', {}, new Date(time + HOUR))
    expect(await judge(object(leased))).toMatchObject({ standing: 'inUse', reason: expect.stringContaining('leased until') })
  })

  it("that an open job has taken over is that job's", async () => {
    const claim = ids.claim()
    await journal.begin(ORPHANS_JOB, { adopted: [claim] })
    expect(await judge(object(claim))).toMatchObject({ standing: 'recoverable' })
    expect(await judge(object(claim), { alive: true })).toMatchObject({ standing: 'inUse' })
  })

  it('whose claim was released is an orphan, on whatever host it was made, but gone when that was just now', async () => {
    const claim = await claimOf(true)
    expect(await judge(object(claim, { host: 'elsewhere' }))).toMatchObject({ standing: 'orphan', removable: true })
    expect(await judge(object(claim), { began: new Date(0) })).toMatchObject({ standing: 'gone', removable: false })
  })

  it('of before all the journal knows is of a lost journal: an orphan when nobody can be using it', async () => {
    const claim = ids.claim()
    const old = { time: new Date(time - HOUR).toISOString() }
    expect(await judge(object(claim, old))).toMatchObject({ standing: 'orphan', removable: true })
    await claimOf(true)
    expect(await judge(object(claim, old))).toMatchObject({ standing: 'orphan', removable: true })
    expect(await judge(object(claim, old), { others: [4711] })).toMatchObject({ removable: false, reason: expect.stringContaining('4711') })
    expect(await judge(object(claim, { ...old, host: 'other' }))).toMatchObject({ standing: 'unproven', removable: false })
    expect(await judge(object(claim, { ...old, host: 'other' }), { named: agent })).toMatchObject({ removable: true })
  })

  it("of after the journal's first job that the journal never knew is a copy's", async () => {
    await claimOf(true)
    const verdict = await judge(object(ids.claim(), { time: new Date(time + HOUR).toISOString() }))
    expect(verdict).toMatchObject({
      standing: 'unproven',
      removable: false,
      reason: expect.stringContaining('a copy of this installation'),
    })
  })

  it('is not removed while anything speaks against it, whoever is named', async () => {
    const one = object(await claimOf(true), {}, 'it is not powered off, so somebody uses it')
    expect(await judge(one)).toMatchObject({ standing: 'orphan', removable: false, reason: 'It is not powered off, so somebody uses it.' })
    expect(await judge(one, { named: agent })).toMatchObject({ removable: false })
  })
})

describe('what is not marked by this agent', () => {
  it('is removed only for the agent that was named, and never while in doubt', async () => {
    const other = ids.agent()
    const one = object(ids.claim(), { agent: other })
    expect(await judge(one)).toMatchObject({ standing: 'other', removable: false })
    expect(await judge(one, { named: ids.agent() })).toMatchObject({ removable: false })
    expect(await judge(one, { named: other })).toMatchObject({ standing: 'other', removable: true })
    expect(await judge({ ...one, doubt: 'it is a copy' }, { named: other })).toMatchObject({ removable: false })
  })

  it('is never removed without a mark', async () => {
    for (const claim of [ids.claim(), await claimOf(true)])
      expect(await judge(object(claim, null), { named: agent })).toMatchObject({ standing: 'unproven', removable: false })
  })
})
