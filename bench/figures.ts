import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { readFileSync } from 'node:fs'
import { type Cost, median } from './measure.ts'

/** What one contestant took for one part, round by round. */
export type Figure = {
  readonly part: string
  readonly tool: string
  readonly costs: readonly Cost[]
  readonly repositoryBytes?: number | undefined
  /** What went through, where its speed counts. */
  readonly dataBytes?: number | undefined
}

export type Goal = { readonly what: string; readonly met: boolean }

const MIB = 1024 * 1024

/** Collects figures, ratios and goals, and prints each as it comes. */
export class Figures {
  readonly figures: Figure[] = []
  readonly ratios: Record<string, number> = {}
  readonly goals: Goal[] = []
  /** What each stage takes by itself. */
  stages: readonly unknown[] = []
  /** The same of a full that takes no more room than restic's. */
  stagesAsSmall: readonly unknown[] = []
  readonly #say: (line: string) => void

  constructor(say: (line: string) => void) {
    this.#say = say
  }

  title(text: string): void {
    this.#say(text)
  }

  add(figure: Figure): void {
    this.figures.push(figure)
    const of = (what: (cost: Cost) => number): number => median(figure.costs.map(what))
    const resident = Math.round(Math.max(...figure.costs.map(({ rssBytes }) => rssBytes)) / 1e6)
    const stored = figure.repositoryBytes === undefined ? '' : `  ${Math.round(figure.repositoryBytes / MIB)} MiB stored`
    const seconds = of(({ wallSeconds }) => wallSeconds)
    const speed = figure.dataBytes === undefined ? '' : `  ${Math.round(figure.dataBytes / seconds / 1e6)} MB/s`
    this.#say(
      `  ${figure.tool.padEnd(12)} ${seconds.toFixed(seconds < 1 ? 3 : 2).padStart(8)} s  ${of(({ cpuSeconds }) => cpuSeconds)
        .toFixed(2)
        .padStart(8)} CPU s  ${String(resident).padStart(5)} MB resident${stored}${speed}`,
    )
  }

  /** Median time of one tool as a part of another's, in one part of the run; NaN when one of them did not take part. */
  ratio(part: string, tool: string, other: string, of: 'wallSeconds' | 'cpuSeconds' = 'wallSeconds'): number {
    const costs = (name: string): readonly number[] =>
      this.figures.find((figure) => figure.part === part && figure.tool === name)?.costs.map((cost) => cost[of]) ?? []
    const ratio = median(costs(tool)) / median(costs(other))
    if (!Number.isNaN(ratio)) this.ratios[`${part}: ${tool}/${other}, ${of === 'wallSeconds' ? 'time' : 'CPU'}`] = Number(ratio.toFixed(4))
    return ratio
  }

  of(part: string, tool: string): Figure | undefined {
    return this.figures.find((figure) => figure.part === part && figure.tool === tool)
  }

  /** A goal of which one side did not take part is none. */
  goal(what: string, value: number, met: boolean): void {
    if (!Number.isNaN(value)) this.goals.push({ what, met })
  }

  json(facts: Readonly<Record<string, unknown>>): string {
    const machine = {
      processor: cpus()[0]?.model ?? '',
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      kernel: release(),
      load: readFileSync('/proc/loadavg', 'latin1').trim(),
    }
    const { figures, stages, stagesAsSmall, ratios, goals } = this
    return `${JSON.stringify({ version: 1, node: process.versions.node, machine, ...facts, figures, stages, stagesAsSmall, ratios, goals }, undefined, 2)}\n`
  }
}
