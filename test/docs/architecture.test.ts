import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ASIDE, RANKS } from '../../scripts/ranks.ts'
import { rowsUnder } from './markdown-table.ts'

const TOP = join(import.meta.dirname, '..', '..')
const PAGE = readFileSync(join(TOP, 'docs', 'architecture.md'), 'utf8')
const bare = (cell = ''): string => cell.replaceAll(/[`/]/g, '').replace(/^\[(.*)\]\(.*\)$/, '$1')

it('the rank table tells the ranks that the check holds, of the rooms that are there', () => {
  const listed = rowsUnder(PAGE, 'Rooms and ranks').map(([rank, room]) => [bare(room), bare(rank)] as const)
  const real = readdirSync(join(TOP, 'src')).map((room) => [room, ASIDE[room] === undefined ? String(RANKS[room]) : 'aside'] as const)
  expect(Object.fromEntries(listed)).toEqual(Object.fromEntries(real))
})

it('the table of claims lists every kind there is', () => {
  const listed = rowsUnder(PAGE, 'Claims').map(([kind]) => bare(kind))
  const code = readFileSync(join(TOP, 'src', 'journal', 'claim-kinds.ts'), 'utf8')
  const body = /export interface ClaimKinds \{\n([^]*?)\n\}/.exec(code)?.[1] ?? ''
  const real = [...body.matchAll(/^ {2}(\w+): \{/gm)].map((match) => match[1])
  expect(listed).toEqual(real)
})

it('every file that the page names is there', () => {
  const named = [...PAGE.matchAll(/`((?:src|docs|scripts|test|bench)\/[\w./-]+)`/g)].map((match) => match[1] ?? '')
  expect(named.length).toBeGreaterThan(5)
  expect(named.filter((path) => !existsSync(join(TOP, path)))).toEqual([])
})
