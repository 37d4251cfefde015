import { readFileSync } from 'node:fs'
import type { Figures } from './figures.ts'

/** `bench/ratios.json`: ratios as they were when somebody last looked, and how much worse each may be. */
export type KnownRatios = { readonly margin: number; readonly ratios: Readonly<Record<string, number>> }

/** A goal for each known ratio: a ratio is the same on every machine, more or less; a time is not. One that was not measured is missed. */
export function checkRatios(figures: Figures, file: string): void {
  const { margin, ratios } = JSON.parse(readFileSync(file, 'utf8')) as KnownRatios
  for (const [name, known] of Object.entries(ratios)) {
    const now = figures.ratios[name]
    const most = known * margin
    figures.goals.push({
      what: `${name}: ${now?.toFixed(2) ?? 'not measured'}, known as ${known.toFixed(2)}, at most ${most.toFixed(2)}`,
      met: now !== undefined && now <= most,
    })
  }
}
