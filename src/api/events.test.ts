import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ApiWorld, openApiWorld, vmRef } from '../../test/api-world.ts'
import { Secret, systemClock } from '../core/index.ts'
import type { AgentEvent } from './event-view.ts'
import { ApiClient, type ReadEvent } from './index.ts'
import { heapInUse } from '../../test/heap-in-use.ts'

let world: ApiWorld
let client: ApiClient
beforeAll(async () => {
  world = await openApiWorld({ beatMs: 500 })
  client = await ApiClient.open({ socket: world.socket })
})
afterAll(async () => {
  await client[Symbol.asyncDispose]()
  await world[Symbol.asyncDispose]()
})

const notice = (message: string): AgentEvent => ({ type: 'notice', at: '2026-11-26T01:00:00.000Z', level: 'info', message })
const progress = (doneBytes: number): AgentEvent => ({
  type: 'progress',
  at: '2026-11-26T01:00:00.000Z',
  run: 'run-1',
  vm: vmRef('web01'),
  progress: { doneBytes, totalBytes: 1e9 },
})

/** Events after `after` until `count` came; the first of them is told when the stream is open. */
async function listen(count: number, after?: string, opened: () => void = () => undefined): Promise<readonly ReadEvent[]> {
  const stop = new AbortController()
  const seen: ReadEvent[] = []
  const told = setInterval(opened, 20)
  try {
    for await (const each of client.events(after, { signal: stop.signal })) {
      clearInterval(told)
      seen.push(each)
      if (seen.length === count) break
    }
  } finally {
    clearInterval(told)
    stop.abort()
  }
  return seen
}

test('events come as they happen, and who comes back is told what came since', async () => {
  const first = await listen(1, undefined, () => world.control.tell(notice('hello')))
  expect(first[0]?.event).toMatchObject({ type: 'notice', message: 'hello' })
  for (let index = 1; index <= 3; index++) world.control.tell(notice(`n${index}`))
  world.control.tell(progress(5))
  await systemClock.sleep(50)
  const all = await listen(3, first[0]?.id)
  const names = all.map(({ event }) => (event.type === 'notice' ? event.message : event.type)).filter((name) => name !== 'hello')
  expect(names).toEqual(['n1', 'n2', 'n3'].slice(0, names.length))
  expect(names.length).toBeGreaterThan(0)
  expect(await listen(1, '00000000-1')).toContainEqual({ id: undefined, event: { type: 'missed' } })
  expect(world.control.taken).toBe(1)
})

test('what is not remembered any more is told as missed', async () => {
  const [seen] = await listen(1, undefined, () => world.control.tell(notice('mark')))
  for (let index = 0; index < 2500; index++) world.control.tell(notice(`m${index}`))
  await systemClock.sleep(100)
  const again = await listen(2001, seen?.id)
  expect(again.some(({ event }) => event.type === 'missed')).toBe(true)
})

test('a reader that does not read is dropped, and the others do not notice', async () => {
  const stuck = connect(world.socket)
  stuck.on('error', () => undefined) // the drop is what is waited for
  const closed = new Promise<void>((resolve) => stuck.once('close', () => resolve()))
  stuck.write('GET /v1/events HTTP/1.1\r\nhost: agent\r\n\r\n')
  stuck.pause()
  await systemClock.sleep(100)
  const before = heapInUse()
  const text = 'x'.repeat(20_000)
  const other = listen(50, undefined, () => world.control.tell(notice(text)))
  for (let index = 0; index < 300; index++) {
    world.control.tell(notice(text))
    await systemClock.sleep(2)
  }
  expect(await other).toHaveLength(50)
  for (let waited = 0; waited < 50 && !world.logged.some((line) => line.includes('reader of events')); waited++)
    await systemClock.sleep(100)
  expect(world.logged.join('\n')).toMatch(/a reader of events (?:was too slow|has stopped reading) and is dropped/)
  stuck.resume()
  await closed
  expect(heapInUse() - before).toBeLessThan(200e6)
})

test('a stream ends soon after its token was revoked', async () => {
  const token = await world.token('viewer', 'short')
  await using remote = await ApiClient.open({ url: world.url, token: new Secret(token), trust: { thumbprint: world.thumbprint } })
  const seen: ReadEvent[] = []
  const reading = (async () => {
    for await (const each of remote.events(undefined)) seen.push(each)
  })()
  const ended = expect(reading).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  for (let told = 0; seen.length === 0 && told < 500; told++) {
    world.control.tell(notice('hello'))
    await systemClock.sleep(20)
  }
  await world.tokens.revoke('short')
  await ended
  await expect(remote.events(undefined)[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'AUTH' })
})
