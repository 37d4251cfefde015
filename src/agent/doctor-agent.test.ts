import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openApiWorld } from '../../test/api-world.ts'
import { systemClock } from '../core/index.ts'
import type { Agent } from './agent.ts'
import { checkAgent, checkLog, checkStateDirectory } from './doctor-agent.ts'
import type { Finding } from './doctor.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-doctor-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

async function found(check: (agent: Agent, findings: Finding[]) => Promise<void>, config: object): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  const given = { stateDirectory: directory, logLevel: 'info', jobs: [], api: { socket: undefined }, ...config }
  await check({ config: given, clock: systemClock, signal: new AbortController().signal } as unknown as Agent, findings)
  return findings.filter(({ check: name }) => name !== 'unit')
}
const isRoot = process.getuid?.() === 0

test('the state directory is its owner’s alone, with all that is in it', async () => {
  expect(await found(checkStateDirectory, {})).toMatchObject([{ result: 'ok' }])
  await chmod(directory, 0o750)
  expect(await found(checkStateDirectory, {})).toMatchObject([
    { result: 'warning', detail: expect.stringContaining('mode 750'), next: `chmod 700 ${directory}` },
  ])
})

test.runIf(isRoot)('what another user left in it, and a directory of another user, are told', async () => {
  await writeFile(join(directory, 'state.sqlite-wal'), '')
  await chown(directory, 4711, 4711)
  expect(await found(checkStateDirectory, {})).toMatchObject([
    { result: 'failed', detail: expect.stringContaining('state.sqlite-wal in it do not') },
  ])
  await chown(join(directory, 'state.sqlite-wal'), 4711, 4711)
  expect(await found(checkStateDirectory, {})).toMatchObject([
    { result: 'warning', detail: expect.stringContaining('belongs to user 4711, and this is user 0') },
  ])
})

test('a log is written and rotated, or it is told why not', async () => {
  const logBounds = { maxBytes: 1 << 20, files: 3 }
  expect(await found(checkLog, { logFile: undefined, logBounds })).toMatchObject([
    { result: 'ok', detail: 'level info, to standard error' },
  ])
  expect(await found(checkLog, { logFile: join(directory, 'vcb.log'), logBounds })).toMatchObject([
    { result: 'ok', detail: expect.stringContaining('rotated at 1.0 MiB, 3 files kept') },
  ])
  expect(await found(checkLog, { logFile: join(directory, 'vcb.log'), logBounds: undefined })).toMatchObject([
    { result: 'ok', detail: expect.stringContaining('rotated by others') },
  ])
  await mkdir(join(directory, 'file.d'))
  await writeFile(join(directory, 'file'), '')
  expect(await found(checkLog, { logFile: join(directory, 'file', 'vcb.log'), logBounds })).toMatchObject([{ result: 'failed' }])
})

test('the agent that runs is asked, and one that does not is missed where there are jobs', async () => {
  await using world = await openApiWorld()
  const socket = { path: world.socket }
  expect(await found(checkAgent, { api: { socket } })).toMatchObject([
    { check: 'agent', result: 'ok', detail: expect.stringMatching(/0 run, 0 wait; socket .* \(mode 6[06]0\)/) },
  ])
  await world.api[Symbol.asyncDispose]()
  await writeFile(world.socket, '')
  expect(await found(checkAgent, { api: { socket } })).toMatchObject([
    { result: 'warning', detail: expect.stringContaining('a dead one left it') },
  ])
  const none = { path: join(directory, 'none') }
  expect(await found(checkAgent, { api: { socket: none } })).toEqual([])
  expect(await found(checkAgent, { api: { socket: none }, jobs: [{}, {}] })).toMatchObject([
    { result: 'warning', detail: expect.stringContaining('the 2 jobs are not run') },
  ])
})
