import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { NFC_QUIRKS } from '../../src/lab/model/nfc-quirks.ts'
import { rowsUnder } from './markdown-table.ts'

const TOP = join(import.meta.dirname, '..', '..')
const PAGE = readFileSync(join(TOP, 'docs', 'nfc-coverage.md'), 'utf8')

const files = new Set(readdirSync(join(TOP, 'src'), { recursive: true, encoding: 'utf8' }).map((path) => path.replace(/^.*\//, '')))
/** Short names of tests, as the page introduces them: `golden` = `test/…`. */
const aliases = new Map([...PAGE.matchAll(/`([a-z ]+)` = `([^`]+\.ts)`/g)].map(([, name = '', path = '']) => [name, path]))
const chapters = [...PAGE.matchAll(/^## (.+)$/gm)].map(([, title = '']) => title)
const rows = chapters.flatMap((title) => rowsUnder(PAGE, title))

it('names files, faults and tests that are there, and a test for every rule', () => {
  expect([...aliases.keys()].toSorted()).toEqual(['codec', 'faults', 'fuzz', 'golden', 'lab', 'lab codec', 'peer', 'session'])
  for (const path of aliases.values()) expect([path, existsSync(join(TOP, path))]).toEqual([path, true])
  expect(rows.length).toBeGreaterThan(50)
  for (const [rule = '', client = '', lab = '', test = ''] of rows) {
    for (const [, name = ''] of `${client} ${lab}`.matchAll(/`([\w-]+\.ts)`/g))
      expect([rule, name, files.has(name)]).toEqual([rule, name, true])
    for (const quirk of /quirks? (.*)$/.exec(lab)?.[1]?.matchAll(/`(\w+)`/g) ?? []) {
      const name = quirk[1] ?? ''
      expect([rule, name, name === 'cut' || NFC_QUIRKS.some((known) => known === name)]).toEqual([rule, name, true])
    }
    const tests = test.split(',').map((name) => name.trim())
    for (const name of tests) expect([rule, name, aliases.has(name)]).toEqual([rule, name, true])
  }
})
