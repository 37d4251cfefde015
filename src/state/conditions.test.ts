import { expect, it } from 'vitest'
import { Conditions, numbered } from './conditions.ts'

it('asks only for what was given, each value as often as it is compared', () => {
  const none = new Conditions().when(undefined, 'a = ?')
  expect([none.sql, none.values]).toEqual(['', []])
  const some = new Conditions().when('x', 'a = ?').when(undefined, 'b = ?').when(3, 'c = ? OR d = ?')
  expect(some.sql).toBe('WHERE (a = ?) AND (c = ? OR d = ?)')
  expect(some.values).toEqual(['x', 3, 3])
  expect(numbered(`SELECT 1 ${some.sql} LIMIT ?`)).toBe('SELECT 1 WHERE (a = $1) AND (c = $2 OR d = $3) LIMIT $4')
})
