import { expect, test } from 'vitest'
import type { Cut, Recorded } from './commands.ts'
import type { CutResult, CutTask } from './live-cut.ts'
import { sampledCuts, SecondCuts, singleCuts } from './plan.ts'

const EFFECTS = ['row open', 'call Login', ...Array.from({ length: 40 }, () => 'file write'), 'row close']
const recorded = new Map<string, Recorded>([
  ['a', { effects: EFFECTS, settled: [] }],
  ['b', { effects: ['row open', 'process start', 'row close'], settled: [] }],
])
const result = (task: CutTask, recovery: readonly string[], reached = true): CutResult => ({
  task,
  reached,
  secondReached: false,
  problems: [],
  recovery,
  seconds: 0,
})
const at = (flow: string, n: number, phase: Cut['phase'] = 'before'): CutTask => ({ flow, cut: { phase, n }, next: false, restic: false })

test('every effect is cut before and after; stock restic judges each name and phase once', () => {
  const cuts = singleCuts('a', { effects: EFFECTS, settled: [] })
  expect(cuts.map(({ cut }) => `${cut.phase}:${cut.n}`)).toEqual(
    EFFECTS.flatMap((_, index) => [`before:${index + 1}`, `after:${index + 1}`]),
  )
  expect(cuts.filter(({ restic }) => restic)).toHaveLength(8)
})

test('before a settled effect is one kill with after the one it follows, and both names are judged', () => {
  const cuts = singleCuts('b', { effects: ['row open', 'file write', 'call Login', 'row close'], settled: [2, 3] })
  expect(cuts.map(({ cut, both }) => `${cut.phase}:${cut.n}${both === true ? ' both' : ''}`)).toEqual([
    'before:1',
    'after:1 both',
    'after:2 both',
    'after:3',
    'before:4',
    'after:4',
  ])
  const seen = new Set(['after row open'])
  expect(singleCuts('b', { effects: ['row open', 'file write'], settled: [2] }, seen).map(({ restic }) => restic)).toEqual([
    true,
    true,
    true,
  ])
  expect(seen).toContain('before file write')
})

test('a part of recovery that nobody cut yet is cut at each effect, one that was cut is not, however often an effect repeats', () => {
  const seconds = new SecondCuts(recorded, (flow) => (flow === 'a' ? 'backup' : 'restore'))
  const job = (files: number): string[] => ['row job adopted', ...Array.from({ length: files }, () => 'file remove'), 'row job finished']
  const first = seconds.ofNewParts(result(at('a', 3), ['row open', ...job(2), 'row close']))
  expect(first.map(({ second }) => `${second?.phase}:${second?.n}`)).toEqual(
    [1, 2, 3, 4, 5, 6].flatMap((n) => [`before:${n}`, `after:${n}`]),
  )
  expect(seconds.ofNewParts(result(at('a', 4), ['row open', ...job(9), ...job(1), 'row close']))).toEqual([])
  const other = seconds.ofNewParts(
    result(at('a', 5), ['row open', ...job(1), 'row job adopted', 'call Login', 'row job finished', 'row close']),
  )
  expect(other.map(({ second }) => second?.n)).toEqual([5, 5, 6, 6, 7, 7])
  expect(seconds.ofNewParts(result(at('a', 5), ['call New'], false))).toEqual([])

  const claims = (...names: string[]): string[] => [
    'row job adopted',
    ...names.flatMap((name) => [name, 'row claim released']),
    'row job finished',
  ]
  const places = (recovery: readonly string[], flow: string): string[] =>
    seconds
      .ofNewParts(result(at(flow, 6), recovery))
      .flatMap(({ second }) => (second?.phase === 'before' ? [recovery[second.n - 1] ?? ''] : []))
  expect(places(claims('call A', 'call B'), 'a')).toEqual([
    'row job adopted',
    'call A',
    'row claim released',
    'call B',
    'row claim released',
    'row job finished',
  ])
  expect(places(claims('call A', 'call C', 'call B'), 'a')).toEqual(['call C', 'row claim released'])
  expect(places(claims('call C'), 'b')).toEqual(['row job adopted', 'call C', 'row claim released', 'row job finished'])
})

test('second kills in turn: one for each effect, at a place that moves on, few inside a run of one name', () => {
  const seconds = new SecondCuts(recorded, () => 'backup')
  const recovery = ['x 1', 'x 2', 'x 3']
  const places = singleCuts('a', { effects: EFFECTS, settled: [] }).flatMap((task) => seconds.inTurn(result(task, recovery)))
  const cut = places.map((task) => task.cut.n)
  expect(new Set(cut).size).toBe(cut.length)
  expect(cut).toEqual([1, 2, 3, 8, 16, 24, 32, 40, 42, 43])
  expect(new Set(places.slice(0, 6).map(({ second }) => `${second?.phase}:${second?.n}`)).size).toBe(6)
})

test.each([10, 40])('the sample of one in %i is the same for the same seed, with every flow and kind of effect in it', (every) => {
  const sample = sampledCuts(recorded, '1', every)
  expect(sampledCuts(recorded, '1', every)).toEqual(sample)
  expect(sampledCuts(recorded, '2', every)).not.toEqual(sample)
  for (const [flow, { effects }] of recorded) {
    const kinds = new Set(effects.map((name) => name.split(' ')[0]))
    const seen = sample.filter((task) => task.flow === flow).map((task) => effects[task.cut.n - 1]?.split(' ')[0])
    expect(new Set(seen)).toEqual(kinds)
  }
})
