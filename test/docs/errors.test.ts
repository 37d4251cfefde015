import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { AgentError, ERROR_CODES, type ErrorCode } from '../../src/core/index.ts'
import { rowsUnder } from './markdown-table.ts'

const TOP = join(import.meta.dirname, '..', '..')
const PAGE = readFileSync(join(TOP, 'docs', 'errors.md'), 'utf8')

const codes = rowsUnder(PAGE, 'Codes')
const situations = rowsUnder(PAGE, 'Situations')
const failures = rowsUnder(PAGE, 'Failures and what vcb does')

/** All source text, with what a template inserts as `…` and quotes as they are printed. */
const sources = readdirSync(join(TOP, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts') && !path.endsWith('.test.ts'))
  .map((path) => readFileSync(join(TOP, 'src', path), 'utf8').replaceAll("\\'", "'"))

/** Text of the test files of one name, without `.test.ts`. */
const tests = new Map<string, string>()
for (const top of ['test', 'src']) {
  for (const path of readdirSync(join(TOP, top), { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.test.ts')) continue
    const name = path.replace(/^.*\//, '').replace(/\.test\.ts$/, '')
    tests.set(name, `${tests.get(name) ?? ''}${readFileSync(join(TOP, top, path), 'utf8').replaceAll("\\'", "'")}`)
  }
}

/** The pieces of a sentence between what differs must stand in one source file. */
function expectSaid(said: string): void {
  const pieces = said
    .split('…')
    .map((piece) => piece.trim())
    .filter((piece) => piece.length > 2)
  expect(pieces.length).toBeGreaterThan(0)
  const holder = sources.find((text) => pieces.every((piece) => text.includes(piece)))
  expect(holder, `no source file says all of: ${pieces.join(' | ')}`).toBeDefined()
}

describe('docs/errors.md', () => {
  it('lists every code with the exit status, the retry and the next step that the code has, and no other', () => {
    const listed = codes.map(([code = '', exit, , next, retry]) => ({ code: code.replaceAll('`', ''), exit: Number(exit), next, retry }))
    const real = (Object.keys(ERROR_CODES) as ErrorCode[]).map((code) => {
      const error = new AgentError(code, '')
      return { code, exit: error.exit, next: error.next, retry: error.retry }
    })
    expect(listed).toEqual(real)
  })

  it('gives every code its own exit status', () => {
    expect(new Set(Object.values(ERROR_CODES).map(({ exit }) => exit)).size).toBe(Object.keys(ERROR_CODES).length)
  })

  it('describes situations', () => {
    expect(situations.length).toBeGreaterThan(20)
  })

  it.each(situations.map((row) => [row[0] ?? '', row] as const))('quotes what is really said: %s', (_title, [, said = '', code = '']) => {
    expect(Object.keys(ERROR_CODES)).toContain(code.replaceAll('`', ''))
    expectSaid(said)
  })

  it.each(failures.map((row) => [row[0] ?? '', row] as const))(
    'says of a failure what is really said, what to do, and which test shows it: %s',
    (_title, [, said = '', code = '', does = '', shown = '']) => {
      expect(Object.keys(ERROR_CODES)).toContain(code)
      expectSaid(said)
      expect(does.length).toBeGreaterThan(20)
      const [, file = '', title = ''] = /^`([\w-]+)`: (.+)$/.exec(shown) ?? []
      expect(tests.get(file), `there is no test file ${file}.test.ts`).toBeDefined()
      expect(tests.get(file), `${file}.test.ts has no test of this name`).toContain(title)
    },
  )
})
