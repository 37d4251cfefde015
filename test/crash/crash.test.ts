import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Recorded } from './commands.ts'
import { readDocument } from './document.ts'
import { flowNamed, flows } from './flows.ts'
import { type CutResult, taskText } from './live-cut.ts'
import { sampledCuts } from './plan.ts'
import { Pool } from './pool.ts'

/*
 * A fortieth of the crash matrix and every kind of effect of each flow, the same cuts each time; `npm run test:crash` is all of it, docs/crash-matrix.md
 * says what it is.
 */
const SEED = '1'
const ONE_IN = 40
let pool: Pool
let recorded: ReadonlyMap<string, Recorded>

beforeAll(async () => {
  pool = await Pool.open(2)
  recorded = await pool.record(flows.map((flow) => flow.name))
}, 600_000)
afterAll(async () => {
  await pool[Symbol.asyncDispose]()
})

describe('a command killed at any of its effects', () => {
  test('leaves nothing behind after recovery, and no wrong byte', { timeout: 900_000 }, async () => {
    const tasks = sampledCuts(recorded, SEED, ONE_IN)
    const results: CutResult[] = []
    await pool.cut(tasks, (result) => void results.push(result))
    expect(
      results.flatMap(({ task, problems }) => problems.map((problem) => `${taskText(task)}: ${problem.kind}: ${problem.what}`)),
    ).toEqual([])
    expect(results).toHaveLength(tasks.length)
    // The kills must have come: all but those of flows that have their effects in another order, or by the clock, each time.
    expect(results.filter(({ task, reached }) => !reached && flowNamed(task.flow).anyOrder !== true)).toEqual([])
    for (const flow of flows) expect(results.some(({ task }) => task.flow === flow.name)).toBe(true)
  })

  test.each([
    [
      'full',
      'after',
      'call CreateSnapshotEx_Task',
      [/alpha: the list of snapshots is/, /datastore file/, /unfinished backup job/, /the lock on alpha/],
    ],
    ['full', 'before', 'call RemoveSnapshot_Task', [/alpha: the list of disks is/, /open claim snapshot/]],
    ['restore-folder', 'after', 'call RegisterVM_Task', [/copy.*has the mark of a restore/, /unfinished restore-vm job/]],
    ['restore-directory-flat', 'after', 'file truncate', [/\.partial/]],
  ] as const)('is seen by the judges when nobody recovers: %s %s %s', { retry: 3 }, async (flow, phase, effect, expected) => {
    // Packs are saved beside the removal of the snapshot, so that the effect of this number may be a neighbour of the one that is meant; then again.
    const n = (recorded.get(flow)?.effects ?? []).indexOf(effect) + 1
    expect(n).toBeGreaterThan(0)
    const results: CutResult[] = []
    await pool.cut([{ flow, cut: { phase, n }, next: false, restic: false, abandon: true }], (result) => void results.push(result))
    const seen = results.flatMap(({ problems }) => problems.map((problem) => problem.what))
    for (const what of expected)
      expect(
        seen.some((each) => what.test(each)),
        `${String(what)} in ${seen.join('; ')}`,
      ).toBe(true)
  })

  test('has the effects that docs/crash-matrix.md lists for it', async () => {
    const documented = await readDocument()
    expect([...documented.keys()].sort()).toEqual(flows.map((flow) => flow.name).sort())
    // Written down every two seconds of an agent that runs.
    const byClock = 'row job waits'
    for (const [flow, { effects }] of recorded) {
      const listed = [...(documented.get(flow) ?? [])]
      const real = [...new Set(effects)].filter((effect) => effect !== byClock || listed.includes(effect))
      expect([flow, listed.sort()]).toEqual([flow, real.sort()])
    }
  })
})
