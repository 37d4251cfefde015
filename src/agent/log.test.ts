import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FakeClock } from '../../test/lab/fake-clock.ts'
import { requirePeer } from '../../test/peer.ts'
import { AgentError, type RunId, Secret, systemClock } from '../core/index.ts'
import { openLog } from './log.ts'
import { insideRun, outsideRuns } from './log-scope.ts'

let directory: string
let path: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-log-'))
  path = join(directory, 'vcb.log')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

test('without a file lines go to standard error, those of the level and above it', async () => {
  const said: string[] = []
  using _written = vi.spyOn(process.stderr, 'write').mockImplementation((text) => said.push(String(text)) > 0)
  await using log = await openLog({ level: 'warn', clock: new FakeClock() })
  log.info('not this')
  log.warn('that', { disk: 'Hard disk 1', absent: undefined })
  insideRun({ run: 'r' as RunId, vm: 'v' }, () => log.error('worse'))
  const at = new FakeClock().now().toISOString()
  expect(said).toEqual([`${at} warn: that {"disk":"Hard disk 1"}\n`, `${at} error: worse {"run":"r","vm":"v"}\n`])
})

type Line = Record<string, unknown>
const linesOf = (text: string): Line[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line)

/** Until a line is in the file that has the log's name. */
async function written(message: string): Promise<void> {
  while (!(await readFile(path, 'utf8').catch(() => '')).includes(`"${message}"`)) await systemClock.sleep(1)
}

/** All lines of the log, the oldest file first. */
async function everything(): Promise<Line[]> {
  const names = (await readdir(directory)).filter((name) => name.startsWith('vcb.log'))
  // The current one first in the alphabet, and last in time; there is none when a process died between its rotation and its next line.
  const inOrder = [...names.filter((name) => name !== 'vcb.log').toSorted(), ...names.filter((name) => name === 'vcb.log')]
  const texts = await Promise.all(inOrder.map((name) => readFile(join(directory, name), 'utf8')))
  return texts.flatMap(linesOf)
}

test('a line that a run says has its id, VM and job, however deep it is said; what is shared belongs to none', async () => {
  const log = await openLog({ level: 'debug', file: path })
  const run = (id: string, vm: string): Promise<void> =>
    insideRun({ run: id as RunId, vm, job: 'nightly' }, async () => {
      await systemClock.sleep(1)
      log.info('reading', { disk: 'Hard disk 1' })
      await Promise.all([1, 2].map(async () => (await systemClock.sleep(1), log.debug('deeper', { vm: undefined }))))
      await outsideRuns(async () => (await systemClock.sleep(1), log.warn('keep-alive failed')))
    })
  await Promise.all([run('run-1', 'web01'), run('run-2', 'db01')])
  log.error('nobody’s', { error: new AgentError('UNAVAILABLE', 'away'), password: new Secret('hidden') })
  await log[Symbol.asyncDispose]()
  const lines = await everything()
  const of = (message: string): Line[] => lines.filter((line) => line['message'] === message)
  const own = (id: string, vm: string): Line => ({ run: id, vm, job: 'nightly', pid: process.pid })
  expect(of('reading')).toMatchObject([own('run-1', 'web01'), own('run-2', 'db01')])
  expect(of('deeper').map(({ run: id, vm }) => [id, vm])).toHaveLength(4)
  expect(of('deeper').every(({ run: id, vm }) => (id === 'run-1') === (vm === 'web01'))).toBe(true)
  for (const line of [...of('keep-alive failed'), ...of('nobody’s')]) expect(Object.keys(line)).not.toContain('run')
  expect(of('nobody’s')).toMatchObject([{ error: { message: 'away', code: 'UNAVAILABLE' }, password: '***', level: 'error' }])
})

test('text of strangers is cut, and so is a line of much of it', async () => {
  const log = await openLog({ level: 'info', file: path })
  log.info('x'.repeat(100_000), { fault: 'y'.repeat(100_000) })
  insideRun({ run: 'r' as RunId, vm: 'v', job: 'j' }, () =>
    log.info('many', { list: Array.from({ length: 5000 }, () => 'an element of it') }),
  )
  await log[Symbol.asyncDispose]()
  const text = await readFile(path, 'utf8')
  expect(text.length).toBeLessThan(20_000)
  expect(linesOf(text)[1]).toEqual({
    timestamp: expect.any(String),
    level: 'info',
    message: 'many',
    pid: process.pid,
    run: 'r',
    vm: 'v',
    job: 'j',
    cut: expect.any(Number),
  })
})

test('a full log goes on in a new one; so many are kept, and no line between them is lost', async () => {
  const log = await openLog({ level: 'info', file: path, bounded: { maxBytes: 8192, files: 4 } })
  for (let line = 0; line < 400; line++) {
    log.info(`line ${line}`)
    if (line % 7 === 0) await systemClock.sleep(0)
  }
  await log[Symbol.asyncDispose]()
  const names = await readdir(directory)
  expect(names).toHaveLength(4)
  const numbers = (await everything()).map(({ message }) => Number(String(message).slice(5)))
  expect(numbers.at(-1)).toBe(399)
  expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, at) => 400 - numbers.length + at))
})

test('a log that was moved away, emptied or is a link is followed', async () => {
  const log = await openLog({ level: 'info', file: path })
  log.info('one')
  await written('one')
  await rename(path, `${directory}/moved`)
  log.info('two')
  await written('two')
  await writeFile(path, '')
  log.info('three')
  await log[Symbol.asyncDispose]()
  expect(linesOf(await readFile(`${directory}/moved`, 'utf8')).map(({ message }) => message)).toEqual(['one'])
  expect(linesOf(await readFile(path, 'utf8')).map(({ message }) => message)).toEqual(['three'])
  const link = join(directory, 'link')
  await symlink(path, link)
  const linked = await openLog({ level: 'info', file: link, bounded: { maxBytes: 65, files: 3 } })
  linked.info('four')
  await linked[Symbol.asyncDispose]()
  expect((await everything()).map(({ message }) => message)).toEqual(['three', 'four'])
})

test('a log that cannot be written costs lines and not the run, and says how many', async () => {
  const told: string[] = []
  const broken = join(directory, 'a-file', 'vcb.log')
  await writeFile(join(directory, 'a-file'), '')
  const log = await openLog({ level: 'info', file: broken, onTrouble: (message) => void told.push(message) })
  log.info('one')
  log.info('two')
  while (told.length === 0) await systemClock.sleep(1)
  log.info('three')
  expect(told).toEqual([expect.stringMatching(/^The log .* cannot be written: /)])
  await rm(join(directory, 'a-file'))
  while (told.length === 1) {
    log.info('four')
    await systemClock.sleep(1)
  }
  await log[Symbol.asyncDispose]()
  const [first, ...rest] = linesOf(await readFile(broken, 'utf8'))
  expect(first?.['lost']).toBeGreaterThanOrEqual(2)
  expect(told[1]).toContain(`is written again; ${String(first?.['lost'])} lines are missing`)
  expect(rest.at(-1)?.['message']).toBe('four')
})

/** A process that logs so many lines and is then at its end, or is killed in the middle. */
const WRITER = `
  import { openLog } from ${JSON.stringify(join(import.meta.dirname, 'log.ts'))}
  const [path, count] = process.argv.slice(1)
  await using log = await openLog({ level: 'info', file: path, bounded: { maxBytes: 65536, files: 200 } })
  for (let line = 0; line < Number(count); line++) {
    log.info('line', { line, filler: 'x'.repeat(line % 300) })
    if (line % 50 === 0) await new Promise(setImmediate)
  }
  process.stdout.write('said')
`
const writer = (count: number) =>
  spawn(process.execPath, ['--input-type=module', '--eval', WRITER, '--', path, String(count)], { stdio: ['ignore', 'pipe', 'inherit'] })

test('processes that write one log damage and lose nothing, though each rotates it', async () => {
  const children = [writer(2000), writer(2000), writer(2000)]
  for (const exit of await Promise.all(children.map((child) => once(child, 'exit')))) expect(exit).toEqual([0, null])
  const lines = await everything()
  expect(lines).toHaveLength(6000)
  for (const { pid } of children) {
    const own = lines.filter((line) => line['pid'] === pid)
    expect(new Set(own.map(({ line }) => line)).size).toBe(2000)
  }
  expect((await readdir(directory)).length).toBeGreaterThan(8)
})

test('a process that is killed while it rotates leaves whole lines, and the next one goes on', async () => {
  const child = writer(1_000_000)
  while ((await readdir(directory)).length < 4) await systemClock.sleep(5)
  child.kill('SIGKILL')
  await once(child, 'exit')
  const before = await everything()
  const log = await openLog({ level: 'info', file: path, bounded: { maxBytes: 65_536, files: 3 } })
  for (let line = 0; line < 300; line++) log.info('again', { filler: 'x'.repeat(300) })
  await log[Symbol.asyncDispose]()
  expect(before.length).toBeGreaterThan(100)
  expect(await readdir(directory)).toHaveLength(3)
  expect((await everything()).filter(({ message }) => message === 'again').length).toBeGreaterThan(200)
})

test('logrotate moves the log of a running vcb away, without a signal and without copytruncate', async () => {
  const logrotate = requirePeer('logrotate')
  const log = await openLog({ level: 'info', file: path, bounded: undefined })
  const configuration = join(directory, 'rotate.conf')
  await writeFile(configuration, `${path} {\n  rotate 5\n  nocreate\n}\n`, { mode: 0o600 })
  for (let turn = 0; turn < 3; turn++) {
    log.info(`turn ${turn}`)
    await written(`turn ${turn}`)
    execFileSync(logrotate, ['--force', '--state', join(directory, 'state'), configuration])
  }
  log.info('last')
  await log[Symbol.asyncDispose]()
  const of = async (name: string): Promise<unknown[]> =>
    linesOf(await readFile(join(directory, name), 'utf8')).map(({ message }) => message)
  expect([await of('vcb.log.3'), await of('vcb.log.2'), await of('vcb.log.1'), await of('vcb.log')]).toEqual([
    ['turn 0'],
    ['turn 1'],
    ['turn 2'],
    ['last'],
  ])
})
