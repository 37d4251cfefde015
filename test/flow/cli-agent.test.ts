import { userInfo } from 'node:os'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { main } from '../../src/cli/main.ts'
import { type RunId, type RunRecord, systemClock } from '../../src/core/index.ts'
import { type ApiWorld, openApiWorld, vmRef } from '../api-world.ts'

let world: ApiWorld
let remote: readonly string[]
beforeAll(async () => {
  world = await openApiWorld()
  const file = join(world.directory, 'operator.token')
  await writeFile(file, `${await world.token('operator')}\n`)
  remote = ['--agent', world.url, '--token-file', file, '--agent-thumbprint', world.thumbprint]
})
afterAll(() => world[Symbol.asyncDispose]())

type Said = { status: number; out: string; err: string }

async function vcb(
  argv: readonly string[],
  { stop, at = world.directory, said = { out: '', err: '' } }: { stop?: AbortSignal; at?: string; said?: Omit<Said, 'status'> } = {},
): Promise<Said> {
  const status = await main([...argv, '--state-dir', at], {
    environment: {},
    out: (text) => void (said.out += text),
    err: (text) => void (said.err += text),
    interactive: false,
    signal: stop ?? new AbortController().signal,
  })
  return { status, ...said }
}

const record = (run: string, name: string, result: RunRecord['result']): RunRecord => ({
  run: run as RunId,
  job: 'nightly',
  vm: vmRef(name),
  mode: 'full',
  dueAt: undefined,
  begunAt: '2026-11-26T01:00:00.000Z',
  endedAt: '2026-11-26T01:10:00.000Z',
  result,
  error: result === 'failed' ? { code: 'UNAVAILABLE', message: 'The host is away.', next: undefined } : undefined,
  point: undefined,
  repository: 'default',
  consistency: undefined,
  totalBytes: 4096,
  readBytes: 2048,
  storedBytes: 1024,
  snapshotLifetimeMs: undefined,
  frozenMs: undefined,
  notProtected: [],
  warnings: [],
})

test('vcb run finds the agent of the state directory, and with --wait tells how the runs ended', async () => {
  const begun = await vcb(['run', 'nightly', '--json'])
  expect(begun.status).toBe(0)
  const { runs } = JSON.parse(begun.out) as { runs: { run: string }[] }
  expect(runs).toHaveLength(1)
  const waiting = vcb(['run', '--vm', 'db01', '--mode', 'full', '--wait'])
  for (let looked = 0; world.control.waiting.length < 2 && looked < 100; looked++) await systemClock.sleep(20)
  const last = world.control.waiting.pop()?.run ?? ''
  world.control.records.unshift(record(last, 'db01', 'failed'))
  const ended = await waiting
  expect(ended.status).toBe(12)
  expect(ended.out).toContain('The host is away.')
  expect(world.control.orders.slice(-1)).toEqual([`run {"select":["db01"],"mode":"full"} by ${userInfo().username}`])
})

test('a run that the agent forgot is told as lost', async () => {
  const waiting = vcb(['run', '--vm', 'app01', '--wait'])
  for (let looked = 0; !world.control.waiting.some(({ vm }) => vm.name === 'app01') && looked < 100; looked++) await systemClock.sleep(20)
  world.control.waiting.pop()
  expect(await waiting).toMatchObject({ status: 12, out: expect.stringMatching(/app01 +lost .*knows nothing of this run/) })
})

test('vcb status shows the queue, of this proxy and of another one', async () => {
  for (const argv of [[], remote]) {
    const { status, out } = await vcb(['status', ...argv])
    expect(status).toBe(0)
    expect(out).toMatch(
      /^Agent: process \d+ since .*, 0 running, 1 waiting\n {2}waits run-1 {2}web01 {2}asked for\nNothing runs and nothing is held/,
    )
  }
  expect(JSON.parse((await vcb(['status', '--json'])).out)).toMatchObject({ running: [], agent: { waiting: [{ run: 'run-1' }] } })
  expect((await vcb(['status', '--no-agent'])).out).toMatch(/^Nothing runs/)
})

test('vcb cancel reaches what waits, here and elsewhere', async () => {
  for (const argv of [[], remote]) {
    expect(await vcb(['cancel', 'run-1', ...argv])).toMatchObject({ status: 0, out: 'backup run-1 of web01: canceled\n' })
    expect(await vcb(['cancel', 'nothing', ...argv])).toMatchObject({ status: 5 })
  }
  expect(world.control.orders).toContain('cancel run-1 by operator')
  expect((await vcb(['cancel', '--all', ...remote])).status).toBe(2)
})

test('vcb jobs and plan of an agent elsewhere', async () => {
  expect((await vcb(['jobs', ...remote])).out).toMatch(/JOB .*\nnightly .* 1 d .*\nweekly/)
  expect((JSON.parse((await vcb(['jobs', 'weekly', '--json', ...remote])).out) as { jobs: unknown[] }).jobs).toHaveLength(1)
  expect((await vcb(['plan', '--job', 'nightly', ...remote])).out).toContain('0 runs, 0 RPOs missed')
  expect((await vcb(['plan', '--job', 'none', ...remote])).status).toBe(5)
  expect((await vcb(['plan', '--vm', 'x', ...remote])).status).toBe(2)
})

test('vcb drain and reload are for admins', async () => {
  expect(await vcb(['drain'])).toMatchObject({ status: 0, out: 'The agent begins nothing new.\n' })
  expect((await vcb(['run', 'nightly'])).status).toBe(6)
  expect(await vcb(['drain', '--off'])).toMatchObject({ out: 'The agent begins what is due.\n' })
  expect(await vcb(['reload'])).toMatchObject({ out: 'Changed: jobs.\n' })
  expect(await vcb(['reload', ...remote])).toMatchObject({
    status: 4,
    err: expect.stringContaining('The token operator has the role operator; this needs admin.'),
  })
})

test('vcb watch tells what happens until it is interrupted', async () => {
  const stop = new AbortController()
  const at = '2026-11-26T01:00:00.000Z'
  const said = [
    { out: '', err: '' },
    { out: '', err: '' },
  ] as const
  const watching = vcb(['watch'], { stop: stop.signal, said: said[0] })
  const json = vcb(['watch', '--json', ...remote], { stop: stop.signal, said: said[1] })
  const both = async (text: string, again: () => void): Promise<void> => {
    for (let looked = 0; !said.every(({ out }) => out.includes(text)) && looked < 500; looked++) {
      again()
      await systemClock.sleep(20)
    }
  }
  await both('hello', () => world.control.tell({ type: 'notice', at, level: 'info', message: 'hello' }))
  world.control.tell({ type: 'begun', at, run: 'r', job: 'nightly', vm: vmRef('web01'), mode: 'incremental' })
  world.control.tell({ type: 'progress', at, run: 'r', vm: vmRef('web01'), progress: { doneBytes: 1, totalBytes: 2 } })
  world.control.tell({ type: 'ended', at, record: record('r', 'web01', 'succeeded') })
  await both('succeeded', () => undefined)
  stop.abort()
  const { status, out } = await watching
  expect(status).toBe(0)
  expect(out).toContain('web01  begins (incremental), job nightly')
  expect(out).toContain('web01  succeeded, 2.0 KiB read, 1.0 KiB stored')
  const events = (await json).out
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { type: string }).type)
    .filter((type) => type !== 'notice')
  expect(events).toEqual(['begun', 'progress', 'ended'])
})

test('without an agent commands say so, and a socket that a dead one left is none', async () => {
  const at = join(world.directory, 'other')
  expect(await vcb(['run', 'nightly'], { at })).toMatchObject({ status: 7, err: expect.stringContaining('No agent runs on this proxy.') })
  const dead = join(world.directory, 'dead')
  await using left = await openApiWorld()
  await left.api[Symbol.asyncDispose]()
  await writeFile(left.socket, '')
  expect((await vcb(['status'], { at: left.directory })).out).toMatch(/^Nothing runs/)
  expect(
    await vcb(['watch', '--agent', 'http://127.0.0.1:1', '--token-file', join(world.directory, 'operator.token')], { at: dead }),
  ).toMatchObject({ status: 3 })
})
