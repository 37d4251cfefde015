import { expect, it } from 'vitest'
import { systemClock } from '../core/index.ts'
import { CompressionLevel, treeLevel } from './compression.ts'

/** Levels at the end of each of these spans, in which so much of a machine of four cores is used by everybody, and of our two by us; a look each 250 ms. */
function levelsAt(spans: readonly (readonly [looks: number, everybody: number, own: number])[]): number[] {
  let ms = 0
  const clock = { ...systemClock, monotonicMs: () => ms }
  let [idleTicks, allTicks, ownMs] = [0, 0, 0]
  const level = new CompressionLevel('auto', { clock, used: () => ({ idleTicks, allTicks, ownMs }), cores: 2 })
  const levels = [level.now()]
  for (const [looks, everybody, own] of spans) {
    for (let look = 0; look < looks; look++) {
      ms += 250
      allTicks += 100
      idleTicks += 100 * (1 - everybody)
      ownMs += own * 2 * 250
      levels.push(level.now())
    }
  }
  return levels.filter((_level, look) => look === 0 || spans.some((_span, at) => look === total(spans.slice(0, at + 1))))
}

const total = (spans: readonly (readonly [number, number, number])[]): number => spans.reduce((sum, [looks]) => sum + looks, 0)

it('rises while the process waits for its source for long, and falls at once when it does not', () => {
  expect(
    levelsAt([
      [7, 0.1, 0.1],
      [1, 0.1, 0.1],
      [8, 0.5, 0.2],
      [8, 0.3, 0.5],
      [8, 0.1, 0],
    ]),
  ).toEqual([1, 1, 2, 3, 5, 5])
  // Somebody else is busy, then we are, in a container.
  expect(
    levelsAt([
      [16, 0.1, 0.1],
      [20, 0.7, 0],
      [20, 0.1, 0.7],
      [1, 0.95, 0.1],
      [1, 0.5, 0.95],
      [1, 1, 0],
    ]),
  ).toEqual([1, 3, 3, 3, 2, 1, 1])
  // A moment that is busy breaks the calm.
  expect(
    levelsAt([
      [7, 0.1, 0.1],
      [1, 0.7, 0.1],
      [7, 0.1, 0.1],
      [1, 0.1, 0.1],
    ]),
  ).toEqual([1, 1, 1, 1, 2])
})

it('begins to count with the first block', () => {
  let ms = 0
  const clock = { ...systemClock, monotonicMs: () => ms }
  const level = new CompressionLevel('auto', { clock, used: () => ({ idleTicks: ms, allTicks: ms, ownMs: 0 }), cores: 2 })
  ms = 60_000
  expect(level.now()).toBe(1)
})

it('stays where it was put', () => {
  for (const [choice, level, tree] of [
    ['off', 0, 1],
    [3, 3, 3],
    [-5, -5, -5],
  ] as const)
    expect([new CompressionLevel(choice, { clock: systemClock }).now(), treeLevel(choice)]).toEqual([level, tree])
})
