import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ApiClient, askJobs } from '../../src/api/index.ts'
import { systemClock } from '../../src/core/index.ts'
import { FROM_SOURCES } from '../crash/commands.ts'
import { peer, requirePeer } from '../peer.ts'
import { openSupervisorSocket, type SupervisorSocket } from '../supervisor-socket.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/* `vcb agent` as a process of its own, as a unit of systemd has it: signals, what the service manager hears, its end and the one after it. */
let session: LabSession
let systemd: SupervisorSocket | undefined
beforeAll(async () => {
  session = await openLabSession()
  await session.json(['init'])
  const python = peer('python3')
  if (python !== undefined && peer('systemd-notify') !== undefined)
    systemd = await openSupervisorSocket(python, join(session.directory, 'notify'))
})
afterAll(async () => {
  await systemd?.[Symbol.asyncDispose]()
  await session[Symbol.asyncDispose]()
})

const file = (): string => join(session.directory, 'vcb.yaml')

async function until(condition: () => boolean | Promise<boolean>, what: () => string): Promise<void> {
  for (let turn = 0; turn < 2400; turn++) {
    if (await condition()) return
    await systemClock.sleep(25)
  }
  throw new Error(`it never became true: ${what()}`)
}

type Running = AsyncDisposable & {
  readonly said: () => string
  readonly signal: (name: NodeJS.Signals) => void
  readonly ended: Promise<number | null>
}

async function startAgent(): Promise<Running> {
  const child = spawn(process.execPath, [FROM_SOURCES.command, 'agent'], {
    env: {
      PATH: process.env['PATH'],
      HOME: session.directory,
      ...session.environment,
      VCB_CONFIG: file(),
      NOTIFY_SOCKET: systemd?.path ?? '',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const ended = once(child, 'exit').then(() => child.exitCode)
  await until(
    () => said.includes('The agent runs') || child.exitCode !== null,
    () => said,
  )
  expect(child.exitCode, said).toBeNull()
  return {
    said: () => said,
    signal: (name) => void child.kill(name),
    ended,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await ended
    },
  }
}

const history = async (vm: string): Promise<Json[]> => (await session.json(['history', '--vm', vm])).runs
const logLines = async (): Promise<Json[]> =>
  (await readFile(join(session.directory, 'vcb.log'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
const isRunning = async (vm: string): Promise<boolean> =>
  ((await session.json(['status'])).agent?.running ?? []).some((run: Json) => run.vm.name === vm)
/** Names of the jobs that the running agent has in force; `vcb jobs` reads the file. */
async function names(): Promise<readonly string[]> {
  await using client = await ApiClient.open({ socket: join(session.directory, 'state', 'agent.sock') })
  return (await askJobs(client)).map(({ name }) => name)
}
const NIGHTLY = (vm: string, also = ''): string =>
  `agent: { grace: 60s }\njobs:\n  - { name: nightly, select: [${vm}], rpo: 24h, timeZone: UTC, quiesce: none }\n${also}`

it('reads its file again on SIGHUP: jobs from the next decision on, what runs untouched, a wrong file told and left alone', async () => {
  session.environment['VCB_CONFIG'] = file()
  session.environment['VCB_LOG_LEVEL'] = 'info'
  await writeFile(file(), NIGHTLY('web01'))
  const slow = await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', object: 'web01', delayMs: 1500 })
  await using agent = await startAgent()
  await until(() => isRunning('web01'), agent.said)
  // Removed while its run is under way, and another one in its place.
  await writeFile(file(), 'jobs:\n  - { name: weekly, select: [web01], rpo: 24h, timeZone: UTC, quiesce: none }\n')
  agent.signal('SIGHUP')
  await until(async () => (await names()).join() === 'weekly', agent.said)
  await until(async () => (await history('web01')).length === 1, agent.said)
  await session.lab.control.clearFaults(slow)
  expect((await session.json(['run', 'weekly', '--wait'])).runs).toMatchObject([{ vm: 'web01', result: 'succeeded' }])
  expect((await history('web01')).map(({ job, result }) => [job, result])).toEqual([
    ['weekly', 'succeeded'],
    ['nightly', 'succeeded'],
  ])
  await writeFile(file(), 'jobs:\n  - { name: weekly, selects: [web01] }\n')
  agent.signal('SIGHUP')
  const refused = async (): Promise<Json> => (await logLines()).find(({ message }) => message === 'the configuration stays the old one')
  await until(async () => (await refused()) !== undefined, agent.said)
  expect((await refused()).error).toMatch(/vcb\.yaml is wrong: .*selects/)
  expect((await session.vcbWith({ VCB_CONFIG: undefined }, 'run', 'weekly', '--wait')).exit).toBe(0)
  await writeFile(file(), NIGHTLY('web01'))
  agent.signal('SIGHUP')
  agent.signal('SIGHUP')
  await until(
    async () =>
      (await names()).join() === 'nightly' &&
      (await logLines()).filter(({ message }) => message === 'the configuration was read again').length >= 2,
    agent.said,
  )
  agent.signal('SIGTERM')
  expect(await agent.ended, agent.said()).toBe(0)
  await session.expectClean()
  if (systemd === undefined) return
  const heard = systemd.heard.map((line) => line.replace(/ STATUS=(.{0,36}).*/, ' $1'))
  expect(heard.slice(0, 5)).toEqual([
    'READY=1 The agent runs 1 jobs.',
    'RELOADING=1',
    'READY=1 The configuration was read again.',
    'RELOADING=1',
    'READY=1 The configuration stays the old one:'.slice(0, 44),
  ])
  expect(heard.filter((line) => !line.startsWith('STATUS')).at(-1)).toMatch(/^STOPPING=1 It ends: 0 backups may end/)
})

it('told to end, lets its run end in its time; the next one runs nothing twice', async () => {
  await writeFile(file(), NIGHTLY('win01'))
  const slow = await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', object: 'win01', delayMs: 1500 })
  await using first = await startAgent()
  await until(() => isRunning('win01'), first.said)
  first.signal('SIGTERM')
  expect(await first.ended, first.said()).toBe(0)
  await session.lab.control.clearFaults(slow)
  expect((await history('win01')).map(({ result }) => result)).toEqual(['succeeded'])
  await session.expectClean()
  expect((await session.json(['agent', '--once'])).runs).toEqual([])
  expect(await history('win01')).toHaveLength(1)
})

it('told to end with no time left, cancels in order and releases; the next one makes up for it once', async () => {
  await writeFile(file(), `agent: { grace: 0s }\n${NIGHTLY('db01').slice(NIGHTLY('').indexOf('jobs:'))}`)
  const slow = await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', object: 'db01', taskMs: 2000 })
  await using first = await startAgent()
  await until(() => isRunning('db01'), first.said)
  const taking = async (): Promise<boolean> => (await session.lab.control.state()).tasks.some(({ state }) => state === 'running')
  await until(taking, first.said)
  first.signal('SIGTERM')
  expect(await first.ended, first.said()).toBe(0)
  await session.lab.control.clearFaults(slow)
  expect((await history('db01')).map(({ result }) => result)).toEqual(['canceled'])
  await session.expectClean()
  const again = await session.json(['agent', '--once'])
  expect(again.runs).toMatchObject([{ vm: { name: 'db01' }, result: 'succeeded' }])
  expect((await session.json(['agent', '--once'])).runs).toEqual([])
  expect((await history('db01')).map(({ result }) => result)).toEqual(['succeeded', 'canceled'])
  await session.expectClean()
})

it('what systemd hears needs the peers python3 and systemd-notify', () => {
  requirePeer('python3')
  requirePeer('systemd-notify')
  expect(systemd?.heard.filter((line) => line.startsWith('READY=1 STATUS=The agent runs')).length).toBeGreaterThan(0)
})
