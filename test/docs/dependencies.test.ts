import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { rowsUnder } from './markdown-table.ts'

const TOP = join(import.meta.dirname, '..', '..')

it('every dependency at run time has its line in ADR 0007, and none is listed that is gone', () => {
  const facts = JSON.parse(readFileSync(join(TOP, 'package.json'), 'utf8')) as Record<
    'dependencies' | 'optionalDependencies',
    Record<string, string>
  >
  const page = readFileSync(join(TOP, 'docs', 'adr', '0007-dependencies.md'), 'utf8')
  const listed = rowsUnder(page, 'Decision').flatMap(([names = '']) => names.split(', '))
  expect(listed.toSorted()).toEqual(Object.keys({ ...facts.dependencies, ...facts.optionalDependencies }).toSorted())
})

it('every dependency is pinned to one version', () => {
  const facts = JSON.parse(readFileSync(join(TOP, 'package.json'), 'utf8')) as Record<string, Record<string, string>>
  const ranges = ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((kind) => Object.entries(facts[kind] ?? {}))
  expect(ranges.filter(([, range]) => !/^\d+\.\d+\.\d+$/.test(range))).toEqual([])
})
