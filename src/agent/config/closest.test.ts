import { expect, test } from 'vitest'
import { closest } from './closest.ts'

test.each([
  ['quiese', 'quiesce'],
  ['VCENTRE', 'vcenter'],
  ['repositroy', 'repository'],
  ['jbos', 'jobs'],
  ['pigeon', undefined],
  ['', undefined],
  ['x', undefined],
])('by %j is meant %j', (word, meant) => {
  expect(closest(word, ['quiesce', 'vcenter', 'repository', 'repositories', 'jobs'])).toBe(meant)
})

test('a very long word costs no more than a long one', () => {
  expect(closest('x'.repeat(10_000_000), ['quiesce'])).toBeUndefined()
})
