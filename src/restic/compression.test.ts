import { expect, it } from 'vitest'
import { systemClock } from '../core/index.ts'
import { CompressionLevel, treeLevel } from './compression.ts'

/** Levels while so much of a machine of four cores is used by everybody, and of our two by us, a second each. */
function levelsAt(shares: readonly (readonly [everybody: number, own: number])[]): number[] {
  let ms = 0
  const clock = { ...systemClock, monotonicMs: () => ms }
  let [idleTicks, allTicks, ownMs] = [0, 0, 0]
  const level = new CompressionLevel('auto', { clock, used: () => ({ idleTicks, allTicks, ownMs }), cores: 2 })
  const levels = [level.now()]
  for (const [everybody, own] of shares) {
    ms += 1000
    allTicks += 400
    idleTicks += 400 * (1 - everybody)
    ownMs += own * 2 * 1000
    levels.push(level.now())
  }
  return levels
}

it('rises while the process waits for its source, and falls when it does not', () => {
  expect(
    levelsAt([
      [0.1, 0.1],
      [0.1, 0.1],
      [0.5, 0.2],
      [0.3, 0.5],
      [0.1, 0],
    ]),
  ).toEqual([1, 2, 3, 5, 5, 5])
  // Somebody else is busy, then we are, in a container.
  expect(
    levelsAt([
      [0.1, 0.1],
      [0.1, 0.1],
      [0.7, 0],
      [0.1, 0.7],
      [0.95, 0.1],
      [0.5, 0.95],
      [1, 0],
      [1, 1],
    ]),
  ).toEqual([1, 2, 3, 3, 3, 2, 1, 1, 1])
  expect(
    levelsAt([
      [1, 0],
      [0.2, 0.9],
      [0.86, 0],
    ]),
  ).toEqual([1, 1, 1, 1])
})

it('stays where it was put', () => {
  for (const [choice, level, tree] of [
    ['off', 0, 1],
    [3, 3, 3],
    [-5, -5, -5],
  ] as const)
    expect([new CompressionLevel(choice, { clock: systemClock }).now(), treeLevel(choice)]).toEqual([level, tree])
})
