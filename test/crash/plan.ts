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

/** In a run of effects of one name, every how many single cuts get a second kill; its ends always do. */
const REPEATS = 8

/**
 * The second kills. Recovery works job by job; every distinct list of effects it had for one job, and before and after its jobs, is cut at each
 * effect, before and after, in the first world that leads to it. Every other single cut gets one second kill, which moves on from cut to cut, so
 * that each place of recovery meets many worlds; inside a run of effects of one name only every eighth does.
 */
export function doubleCuts(singles: readonly CutResult[], recorded: ReadonlyMap<string, readonly string[]>): CutTask[] {
  const seen = new Set<string>()
  const tasks: CutTask[] = []
  let turn = 0
  for (const { task, recovery, reached } of singles) {
    if (!reached || recovery.length === 0) continue
    const places: number[] = []
    for (const { first, names } of partsOf(recovery)) {
      const key = collapsed(names).join()
      if (!seen.has(key)) places.push(...names.map((_, index) => first + index))
      seen.add(key)
    }
    const seconds: Cut[] = places.flatMap((n) => [
      { phase: 'before', n },
      { phase: 'after', n },
    ])
    if (seconds.length === 0 && standsOut(recorded.get(task.flow) ?? [], task.cut.n)) {
      seconds.push({ phase: turn % 2 === 0 ? 'before' : 'after', n: 1 + (Math.floor(turn / 2) % recovery.length) })
      turn++
    }
    for (const second of seconds)
      tasks.push({ flow: task.flow, cut: task.cut, second, next: tasks.length % NEXT_EVERY === 0, restic: false })
  }
  return tasks
}

/** How many distinct parts recovery had. */
export const distinctParts = (singles: readonly CutResult[]): number =>
  new Set(singles.flatMap(({ recovery }) => partsOf(recovery).map(({ names }) => collapsed(names).join()))).size

/** A recovery's effects up to each job it takes up, with the number of the first one of each part. */
function partsOf(recovery: readonly string[]): { readonly first: number; readonly names: readonly string[] }[] {
  const parts: { first: number; names: string[] }[] = [{ first: 1, names: [] }]
  for (const [index, name] of recovery.entries()) {
    if (name === 'row job adopted' || recovery[index - 1] === 'row job finished') parts.push({ first: index + 1, names: [] })
    parts.at(-1)?.names.push(name)
  }
  return parts
}

/** Several of one name in a row count as one: removing ten files and removing nine is the same recovery. */
const collapsed = (names: readonly string[]): readonly string[] => names.filter((name, index) => name !== names[index - 1])

/** Not inside a run of effects of one name, or at its turn there. */
function standsOut(effects: readonly string[], n: number): boolean {
  const name = effects[n - 1]
  return effects[n - 2] !== name || effects[n] !== name || n % REPEATS === 0
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
