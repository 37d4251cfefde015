import { createHash } from 'node:crypto'
import type { Cut, Recorded } from './commands.ts'
import type { CutResult, CutTask } from './live-cut.ts'

/** Every how many cuts the next backup is run as well. */
const NEXT_EVERY = 5

/**
 * Every effect of a flow, before and after; one kill for both where an effect is settled (`Recorded`). Stock restic checks the repository once for each name
 * of an effect and phase that is not yet in `seen`, which flows of one command share.
 */
export function singleCuts(flow: string, { effects, settled }: Recorded, seen = new Set<string>()): CutTask[] {
  const shared = new Set(settled)
  const cuts = effects.flatMap((name, index) =>
    (['before', 'after'] as const)
      .filter((phase) => phase === 'after' || !shared.has(index + 1))
      .map((phase): CutTask => {
        const both = phase === 'after' && shared.has(index + 2)
        const kinds = [`${phase} ${name}`, ...(both ? [`before ${effects[index + 1]}`] : [])]
        const restic = kinds.some((kind) => !seen.has(kind))
        for (const kind of kinds) seen.add(kind)
        return { flow, cut: { phase, n: index + 1 }, both, next: false, restic }
      }),
  )
  return cuts.map((cut, index) => ({ ...cut, next: index % NEXT_EVERY === 0 }))
}

/** In a run of effects of one name, every how many single cuts get a second kill; its ends always do. */
const REPEATS = 8

/**
 * Where recovery is killed after each single cut. It works job by job and claim by claim; every distinct part of it (its effects for one claim, and what is
 * around them; equal ones in a row counted once) is cut at each effect, before and after, in the first world of each command that leads to it. Beside
 * that every effect of a flow gets one second kill, after it was cut before or after in turn, at a place that moves on from cut to cut; inside a run of
 * effects of one name only every eighth does.
 */
export class SecondCuts {
  readonly #recorded: ReadonlyMap<string, Recorded>
  readonly #commandOf: (flow: string) => string
  readonly #seen = new Set<string>()
  #turn = 0

  /** `commandOf` a flow: `backup`, `restore`; the claims of one are not those of another, though their releases may have the same effects. */
  constructor(recorded: ReadonlyMap<string, Recorded>, commandOf: (flow: string) => string) {
    this.#recorded = recorded
    this.#commandOf = commandOf
  }

  /** Distinct parts of recovery so far. */
  get parts(): number {
    return this.#seen.size
  }

  /** Whether the world of this single cut may be needed again. */
  mayFollow({ flow, cut }: CutTask): boolean {
    return this.#standsOut(flow, cut.n)
  }

  /** Those for the parts nobody cut yet; asked once for each single cut, in any order. */
  ofNewParts({ task, recovery, reached }: CutResult): CutTask[] {
    if (!reached) return []
    const places: number[] = []
    for (const { first, names } of partsOf(recovery)) {
      const key = [this.#commandOf(task.flow), ...collapsed(names)].join()
      if (!this.#seen.has(key)) places.push(...names.map((_, index) => first + index))
      this.#seen.add(key)
    }
    return places.flatMap((n) => [second(task, { phase: 'before', n }), second(task, { phase: 'after', n })])
  }

  /** The one that moves on; none where the other phase of the effect has it, or a run of equal effects is too long. */
  inTurn({ task, recovery, reached }: CutResult): CutTask[] {
    const { flow, cut } = task
    // A kill that is before the next effect as well has the turn of either.
    if (!reached || recovery.length === 0 || (cut.n % 2 === 0) !== (cut.phase === 'before') || !this.#standsOut(flow, cut.n)) return []
    const turn = this.#turn++
    return [second(task, { phase: turn % 2 === 0 ? 'before' : 'after', n: 1 + (Math.floor(turn / 2) % recovery.length) })]
  }

  /** Not inside a run of effects of one name, or at its turn there. */
  #standsOut(flow: string, n: number): boolean {
    const effects = this.#recorded.get(flow)?.effects ?? []
    const name = effects[n - 1]
    return effects[n - 2] !== name || effects[n] !== name || n % REPEATS === 0
  }
}

const second = (task: CutTask, cut: Cut): CutTask => ({ flow: task.flow, cut: task.cut, second: cut, next: false, restic: false })

/** A recovery's effects up to each job it takes up and each claim it has released, with the number of the first one of each part. */
function partsOf(recovery: readonly string[]): { readonly first: number; readonly names: readonly string[] }[] {
  const parts: { first: number; names: string[] }[] = [{ first: 1, names: [] }]
  for (const [index, name] of recovery.entries()) {
    const last = recovery[index - 1]
    if (name === 'row job adopted' || last === 'row claim released' || last === 'row job finished')
      parts.push({ first: index + 1, names: [] })
    parts.at(-1)?.names.push(name)
  }
  return parts
}

/** Several of one name in a row count as one: removing ten files and removing nine is the same recovery. */
const collapsed = (names: readonly string[]): readonly string[] => names.filter((name, index) => name !== names[index - 1])

/** How many effects of a recovery a sampled second kill may hit; where it has fewer, it simply runs through. */
const SAMPLED_RECOVERY = 16

/**
 * One in `every` of the single cuts (ten: a tenth), the same ones for the same seed, with at least one for every flow and kind of effect in it;
 * every fourth of them with a second kill.
 */
export function sampledCuts(recorded: ReadonlyMap<string, Recorded>, seed: string, every = 10): CutTask[] {
  const tasks: CutTask[] = []
  for (const [flow, { effects }] of recorded) {
    const ordered = singleCuts(flow, { effects, settled: [] })
      .map((task) => ({ task, rank: numberOf(`${seed} ${flow} ${task.cut.phase}:${task.cut.n}`) }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ task }) => task)
    const chosen = ordered.slice(0, Math.floor(ordered.length / every))
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
