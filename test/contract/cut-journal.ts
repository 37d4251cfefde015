import type { Journal, Releasers } from '../../src/journal/index.ts'
import type { World } from './journal-contract.ts'

/** The releasers of a process that dies at some tick. */
export function dying(world: World, tick: (what: string) => void): Releasers {
  const inner = world.releasers.partialFile
  if (inner === undefined) throw new Error('no releaser')
  return {
    partialFile: {
      async find(claim) {
        tick('before find')
        return inner.find(claim)
      },
      async release(ref, claim) {
        tick('before release')
        await inner.release(ref, claim)
        tick('after release')
      },
    },
  }
}

/** The journal of a process that dies at some tick: each call is cut before and after it is recorded. */
export function cutting(journal: Journal, tick: (what: string) => void): Journal {
  const cut =
    <A extends unknown[], R>(name: string, call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      tick(`before ${name}`)
      const result = await call(...args)
      tick(`after ${name}`)
      return result
    }
  return {
    begin: cut('begin', (kind, args, lease?: Date) => journal.begin(kind, args, lease)),
    intend: cut('intend', (job, kind, args, on) => journal.intend(job, kind, args, on)),
    confirm: cut('confirm', (claim, ref) => journal.confirm(claim, ref)),
    released: cut('released', (claim) => journal.released(claim)),
    assertOwned: (job) => journal.assertOwned(job),
    finish: cut('finish', (job, outcome) => journal.finish(job, outcome)),
    unfinished: cut('unfinished', () => journal.unfinished()),
    adopt: cut('adopt', (job, from) => journal.adopt(job, from)),
    disown: cut('disown', (job, lease?: Date, outcome?: Parameters<Journal['disown']>[2]) => journal.disown(job, lease, outcome)),
    kept: cut('kept', (claim, reason) => journal.kept(claim, reason)),
    requestCancel: (job, by) => journal.requestCancel(job, by),
    toCancel: () => journal.toCancel(),
    waits: (job, wait) => journal.waits(job, wait),

    finished: (limit) => journal.finished(limit),
    prune: (keep) => journal.prune(keep),
    releasedAt: (claim) => journal.releasedAt(claim),
    reachesBackTo: () => journal.reachesBackTo(),
  }
}
