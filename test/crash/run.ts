import { parseArgs } from 'node:util'
import { availableParallelism } from 'node:os'
import type { Cut } from './commands.ts'
import { writeDocument } from './document.ts'
import { flows, flowNamed } from './flows.ts'
import { type CutResult, type CutTask, taskText } from './live-cut.ts'
import { sampledCuts, SecondCuts, singleCuts } from './plan.ts'
import { placeIn } from './place.ts'
import { Pool } from './pool.ts'
import { tallyOf, tallyText } from './tally.ts'

const { values: flags } = parseArgs({
  options: {
    flow: { type: 'string', multiple: true },
    cut: { type: 'string' },
    second: { type: 'string' },
    sample: { type: 'boolean', default: false },
    seed: { type: 'string', default: '1' },
    write: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    workers: { type: 'string' },
    minutes: { type: 'string', default: '17' },
  },
})

process.exitCode = await runMatrix()

/** The matrix, a sample of it, or one cut of it; the process's exit status. */
async function runMatrix(): Promise<number> {
  const started = performance.now()
  const names = (flags.flow ?? flows.map((flow) => flow.name)).map((name) => flowNamed(name).name)
  // Half of a cut is waiting: for the settling of a lock, of a snapshot, for a process to start.
  const size = flags.cut === undefined ? Number(flags.workers ?? 3 * Math.min(2, availableParallelism())) : 1
  await using pool = await Pool.open(size, { keep: flags.keep })
  if (flags.keep) console.log(`kept in ${pool.root}`)
  const budget = Number(flags.minutes) * 60_000
  const results: CutResult[] = []
  const take = (result: CutResult): void => {
    results.push(result)
    for (const problem of result.problems) console.log(`${taskText(result.task)}: ${problem.kind}: ${problem.what}`)
    if (results.length % 100 === 0) console.log(`  ${results.length} cuts, ${Math.round((performance.now() - started) / 1000)} s`)
  }

  if (flags.cut !== undefined) {
    const [flow] = names
    if (flow === undefined || flags.flow === undefined) throw new Error('--cut needs the --flow it is a cut of.')
    const task: CutTask = {
      flow,
      cut: parseCut(flags.cut),
      second: flags.second === undefined ? undefined : parseCut(flags.second),
      next: true,
      restic: true,
    }
    await pool.cut([task], take)
    for (const result of results) console.log(`recovery: ${result.recovery.join(', ')}`)
  } else {
    const recorded = new Map([...(await pool.record(names))].sort(([a], [b]) => names.indexOf(a) - names.indexOf(b)))
    for (const [flow, { effects }] of recorded) console.log(`${flow}: ${effects.length} effects`)
    if (flags.list) {
      await writeDocument(recorded)
      return 0
    }
    const commandOf = (name: string): string => flowNamed(name).argv(placeIn(pool.root, ''))[0] ?? ''
    const seconds = new SecondCuts(recorded, commandOf)
    let left = 0
    if (flags.sample) await pool.cut(sampledCuts(recorded, flags.seed), take)
    else {
      // What a command does to a repository is looked at by stock restic in the first of its flows that does it.
      const looked = new Map<string, Set<string>>()
      for (const flow of recorded.keys()) looked.set(commandOf(flow), new Set())
      const singles = [...recorded]
        .flatMap(([flow, each]) => singleCuts(flow, each, looked.get(commandOf(flow))))
        .map((task) => ({ ...task, more: seconds.mayFollow(task) }))
      const begun = performance.now()
      let done = 0
      await pool.cut(singles, (result) => {
        take(result)
        if (result.task.second !== undefined) return []
        done++
        const turn = seconds.inTurn(result)
        // Those that only move on give way where the time is short; how many is said.
        const expected = ((performance.now() - begun) / done) * singles.length
        const late = done > 50 && expected > budget
        if (late) left += turn.length
        return [...seconds.ofNewParts(result), ...(late ? [] : turn)]
      })
      if (left > 0) console.log(`${left} second kills were left out for want of time`)
    }
    if (flags.flow === undefined && (!flags.sample || flags.write)) {
      const facts = {
        sample: flags.sample,
        minutes: Math.ceil((performance.now() - started) / 60_000),
        parts: seconds.parts,
        left,
        restic: results.filter(({ task }) => task.restic).length,
        next: results.filter(({ task }) => task.next).length,
      }
      await writeDocument(recorded, { results, facts })
    }
  }

  console.log()
  for (const flow of names) {
    const own = results.filter(({ task }) => task.flow === flow)
    if (own.length > 0) console.log(`${flow}: ${tallyText(tallyOf(own))}`)
  }
  const total = tallyOf(results)
  if (total.missed > 0) console.log(`${total.missed} kills did not come: the run had fewer effects than the recorded one`)
  console.log(`all: ${tallyText(total)}`)
  console.log(`took ${Math.round((performance.now() - started) / 1000)} s`)
  console.log(`\n${total.passed} passed, ${total.failed} failed`)
  return total.failed === 0 && total.passed > 0 ? 0 : 1
}

function parseCut(text: string): Cut {
  const [, phase, n] = /^(before|after):([1-9]\d*)$/.exec(text) ?? []
  if (n === undefined || (phase !== 'before' && phase !== 'after')) throw new Error(`${text} is not a cut; write before:17 or after:17.`)
  return { phase, n: Number(n) }
}
