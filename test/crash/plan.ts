import { createHash } from 'node:crypto'
import type { Cut } from './commands.ts'
import type { CutResult, CutTask } from './live-cut.ts'

/** Every how many cuts the next backup is run as well. */
const NEXT_EVERY = 5

/** Every effect of a flow, before and after. Stock restic checks the repository once for each name of an effect and phase. */
export function singleCuts(flow: string, effects: readonly string[]): CutTask[] {
  const seen = new Set<string>()
  return effects.flatMap((name, index) =>
    (['before', 'after'] as const).map((phase, which) => {
      const kind = `${phase} ${name}`
      const restic = !seen.has(kind)
      seen.add(kind)
      return { flow, cut: { phase, n: index + 1 }, next: (index * 2 + which) % NEXT_EVERY === 0, restic }
    }),
  )
}

/**
 * The second kills. Recovery is cut at each of its effects, before and after, once for every distinct list of effects it had in the single
 * cuts; every other single cut gets one second kill, which moves on from cut to cut, so that each place of recovery meets many worlds.
 */
export function doubleCuts(singles: readonly CutResult[]): CutTask[] {
  const traces = new Set<string>()
  const tasks: CutTask[] = []
  let turn = 0
  for (const { task, recovery, reached } of singles) {
    if (!reached || recovery.length === 0) continue
    const all = recovery.flatMap((_, index): Cut[] => [
      { phase: 'before', n: index + 1 },
      { phase: 'after', n: index + 1 },
    ])
    const trace = recovery.join()
    const seconds = traces.has(trace) ? all.slice(turn % all.length, (turn % all.length) + 1) : all
    if (traces.has(trace)) turn++
    traces.add(trace)
    for (const second of seconds)
      tasks.push({ flow: task.flow, cut: task.cut, second, next: tasks.length % NEXT_EVERY === 0, restic: false })
  }
  return tasks
}

/** How many effects of a recovery a sampled second kill may hit; where it has fewer, it simply runs through. */
const SAMPLED_RECOVERY = 16

/**
 * A tenth of the single cuts, the same ones for the same seed, with at least one for every flow and kind of effect in it; every fourth of
 * them with a second kill.
 */
export function sampledCuts(recorded: ReadonlyMap<string, readonly string[]>, seed: string): CutTask[] {
  const tasks: CutTask[] = []
  for (const [flow, effects] of recorded) {
    const ordered = singleCuts(flow, effects)
      .map((task) => ({ task, rank: numberOf(`${seed} ${flow} ${task.cut.phase}:${task.cut.n}`) }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ task }) => task)
    const chosen = ordered.slice(0, Math.floor(ordered.length / 10))
    const kindOf = (task: CutTask): string => effects[task.cut.n - 1]?.split(' ')[0] ?? ''
    for (const kind of new Set(ordered.map(kindOf))) {
      const first = ordered.find((task) => kindOf(task) === kind)
      if (first !== undefined && !chosen.some((task) => kindOf(task) === kind)) chosen.push(first)
    }
    tasks.push(
      ...chosen.map((task, index): CutTask => {
        const dice = numberOf(`${seed} ${flow} second ${index}`)
        const second: Cut = { phase: dice % 2 === 0 ? 'before' : 'after', n: 1 + (Math.floor(dice / 2) % SAMPLED_RECOVERY) }
        return { ...task, restic: index === 0, next: index === 0, ...(index % 4 === 3 ? { second } : {}) }
      }),
    )
  }
  return tasks
}

const numberOf = (text: string): number => createHash('sha256').update(text).digest().readUInt32BE(0)
