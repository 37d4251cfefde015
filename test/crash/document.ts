import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { flows } from './flows.ts'
import type { Recorded } from './commands.ts'
import type { CutResult } from './live-cut.ts'
import { type Tally, tallyOf } from './tally.ts'

export const DOCUMENT = join(import.meta.dirname, '..', '..', 'docs', 'crash-matrix.md')
/** What is above the line is written by hand. */
const GENERATED = '<!-- Everything below is written by `npm run test:crash`. -->'

const LISTS = '## Effects of each flow'

type Facts = {
  readonly sample: boolean
  readonly minutes: number
  readonly parts: number
  readonly left: number
  readonly restic: number
  readonly next: number
}

/** Writes the lists of effects below the text, and the table of a run; without one the table stays as it is. */
export async function writeDocument(
  recorded: ReadonlyMap<string, Recorded>,
  run?: { readonly results: readonly CutResult[]; readonly facts: Facts },
): Promise<void> {
  const [text = '', generated = ''] = (await readFile(DOCUMENT, 'utf8')).split(GENERATED)
  const table = run === undefined ? (generated.split(LISTS)[0] ?? '').trim().split('\n') : tableLines(recorded, run.results, run.facts)
  const lists = [...recorded].flatMap(([flow, { effects }]) => [
    `### ${flow}`,
    '',
    `${flows.find((each) => each.name === flow)?.about ?? ''}:`,
    '',
    ...wrap(collapse(effects)),
    '',
  ])
  const opening = 'In the order they start, as `kind what`; several of one name in a row are one entry with their number.'
  const lines = [text.trimEnd(), '', GENERATED, '', ...table, '', LISTS, '', opening, '', ...lists]
  await writeFile(DOCUMENT, `${lines.join('\n').trimEnd()}\n`)
}

function tableLines(recorded: ReadonlyMap<string, Recorded>, results: readonly CutResult[], facts: Facts): string[] {
  const row = (name: string, effects: number, tally: Tally): string =>
    `| ${name} | ${effects} | ${tally.single} | ${tally.double} | ${tally.leftovers} | ${tally.wrongDigests} |`
  const all = [...recorded.values()].reduce((sum, { effects }) => sum + effects.length, 0)
  return [
    '## The table',
    '',
    '| Flow | Effects | Single kills | Double kills | Leftovers | Wrong digests |',
    '|---|--:|--:|--:|--:|--:|',
    ...[...recorded].map(([flow, { effects }]) =>
      row(`\`${flow}\``, effects.length, tallyOf(results.filter(({ task }) => task.flow === flow))),
    ),
    row('all', all, tallyOf(results)),
    '',
    ...factLines(results, facts),
  ]
}

function factLines(results: readonly CutResult[], facts: Facts): string[] {
  const judged = `Stock \`restic check --read-data\` judged the repository after ${facts.restic} of the cuts, our own check after all; the next backup was run after ${facts.next}.`
  if (facts.sample) return [`A sample of ${results.length} cuts, in ${facts.minutes} minutes; a whole run replaces it.`, judged]
  return [
    `Of the single kills ${results.filter(({ task }) => task.both === true && task.second === undefined).length} are two cut points in one: after an effect on this machine, and before the next one.`,
    `Recovery had ${facts.parts} distinct parts after the single kills; each was cut at every effect, before and after.`,
    ...(facts.left === 0 ? [] : [`${facts.left} of the other second kills were left out for want of time.`]),
    judged,
    `The whole took ${facts.minutes} minutes.`,
  ]
}

/** `file write` twelve times in a row = `` `file write` ×12 ``. */
function collapse(effects: readonly string[]): string[] {
  const runs: { name: string; count: number }[] = []
  for (const name of effects) {
    const last = runs.at(-1)
    if (last?.name === name) last.count++
    else runs.push({ name, count: 1 })
  }
  return runs.map(({ name, count }) => (count === 1 ? `\`${name}\`` : `\`${name}\` ×${count}`))
}

function wrap(parts: readonly string[]): string[] {
  const lines: string[] = ['']
  for (const [index, part] of parts.entries()) {
    const text = index === parts.length - 1 ? `${part}.` : `${part}, `
    const last = lines.at(-1) ?? ''
    if (last.length + text.trimEnd().length > 140) lines.push(text)
    else lines[lines.length - 1] = last + text
  }
  return lines.map((line) => line.trimEnd())
}

/** Flow → names of its effects, as the document has them. */
export async function readDocument(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const text = (await readFile(DOCUMENT, 'utf8')).split(LISTS)[1] ?? ''
  const found = new Map<string, ReadonlySet<string>>()
  for (const section of text.split(/^### /m).slice(1)) {
    const [name = '', ...body] = section.split('\n')
    found.set(name.trim(), new Set([...body.join('\n').matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '')))
  }
  return found
}
