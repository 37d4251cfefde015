import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'

// `.ci/run` in a tree where npm and the peers' installer are stand-ins that say what the case needs.

let top = ''
beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'vcb-ci-test-'))
  for (const folder of ['.ci', 'scripts', 'bin']) mkdirSync(join(top, folder))
  copyFileSync(join(import.meta.dirname, '..', '..', '.ci', 'run'), join(top, '.ci', 'run'))
})
afterEach(() => rmSync(top, { recursive: true }))

const script = (path: string, body: string): void => {
  writeFileSync(join(top, path), `#!/bin/bash\n${body}\n`)
  chmodSync(join(top, path), 0o755)
}

type Parts = {
  readonly peers?: string
  readonly install?: string
  readonly check?: string
  readonly tests?: string
  readonly demo?: string
  readonly bench?: string
}

function run(parts: Parts): { readonly last: string; readonly status: number | null; readonly output: string } {
  const { peers = 'true', install = 'true', check = 'true', tests = "echo '40 passed, 0 failed'", demo = 'true', bench = 'true' } = parts
  script('scripts/install-peers.sh', peers)
  script(
    'bin/npm',
    `case "$*" in\nci*) ${install};;\n*bench:check) ${bench};;\n*check) ${check};;\ntest*) ${tests};;\n*demo) ${demo};;\n*) echo "npm $*?"; exit 9;;\nesac`,
  )
  const ended = spawnSync('bash', [join(top, '.ci', 'run')], { encoding: 'utf8', env: { PATH: `${join(top, 'bin')}:/usr/bin:/bin` } })
  const output = `${ended.stdout}${ended.stderr}`
  return { last: ended.stdout.trimEnd().split('\n').at(-1) ?? '', status: ended.status, output }
}

it('adds up tests, check, demo and benchmark', () => {
  expect(run({})).toMatchObject({ last: '43 passed, 0 failed', status: 0 })
  expect(run({ tests: "echo '40 passed, 0 failed, 2 skipped'" })).toMatchObject({ last: '43 passed, 0 failed, 2 skipped', status: 0 })
})

it('requires every peer in the tests', () => {
  expect(run({ tests: `[ "$VCB_PEERS" = required ] && echo '1 passed, 0 failed'` })).toMatchObject({
    last: '4 passed, 0 failed',
    status: 0,
  })
})

it.each<[string, Parts, string]>([
  ['the check', { check: 'exit 1' }, '42 passed, 1 failed'],
  ['a test', { tests: "echo '39 passed, 1 failed'; exit 1" }, '42 passed, 1 failed'],
  ['the test runner itself', { tests: "echo '40 passed, 0 failed'; exit 1" }, '43 passed, 1 failed'],
  ['a runner without a count', { tests: 'exit 0' }, '3 passed, 1 failed'],
  ['no test at all', { tests: "echo '0 passed, 0 failed'" }, '3 passed, 1 failed'],
  ['the demo', { demo: 'exit 1' }, '42 passed, 1 failed'],
  ['the benchmark', { bench: 'exit 1' }, '42 passed, 1 failed'],
  ['the peers', { peers: 'exit 1' }, '43 passed, 1 failed'],
  ['the installation, and stops', { install: 'exit 1' }, '0 passed, 1 failed'],
])('fails with %s', (_what, parts, last) => {
  const ended = run(parts)
  expect(ended.last, ended.output).toBe(last)
  expect(ended.status).toBe(1)
})

/** A first run in which one test of each of these files failed, and what happens when they are run again. */
const again = (files: readonly string[], second: string): string =>
  `case "$*" in *maxWorkers=1*) echo "again: $*"; ${second};; *) printf '%s\\n' ${files.join(' ')} >"$VCB_FAILED_FILES"; echo '39 passed, ${files.length} failed'; exit 1;; esac`

it('runs files that failed again alone, counts what they do then, and names them', () => {
  const ended = run({ tests: again(['test/a.test.ts', 'src/b.test.ts'], "echo '7 passed, 0 failed'") })
  expect(ended).toMatchObject({ last: '44 passed, 0 failed', status: 0 })
  expect(ended.output).toContain('again: test --silent -- --maxWorkers=1 test/a.test.ts src/b.test.ts\n')
  expect(ended.output).toContain('\nfailed among four files at once, passed alone: test/a.test.ts src/b.test.ts\n')
})

it.each<[string, readonly string[], string, string]>([
  ['fail again', ['a', 'b'], "echo '6 passed, 1 failed'; exit 1", '42 passed, 1 failed'],
  ['end without a count', ['a'], 'exit 1', '42 passed, 1 failed'],
  ['are more than three', ['a', 'b', 'c', 'd'], "echo '7 passed, 0 failed'", '42 passed, 4 failed'],
])('fails where files %s', (_what, files, second, last) => {
  const ended = run({ tests: again(files, second) })
  expect(ended.last, ended.output).toBe(last)
  expect(ended.status).toBe(1)
  expect(ended.output).not.toContain('passed alone')
})
