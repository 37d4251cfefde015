import { expect, it } from 'vitest'
import type { AgentEvent } from '../api/index.ts'
import { EventHub } from './event-hub.ts'

const notice = (message: string): AgentEvent => ({ type: 'notice', at: '2026-11-26T00:00:00.000Z', level: 'info', message })
const messageOf = (event: AgentEvent): string => ('message' in event ? event.message : event.type)

it('tells everybody who listens, from when they began, until they stop', async () => {
  const hub = new EventHub()
  const [first, second] = [new AbortController(), new AbortController()]
  hub.tell(notice('before'))
  const heard: string[] = []
  const listen = async (signal: AbortSignal, name: string): Promise<void> => {
    for await (const event of hub.listen({ signal })) heard.push(`${name} ${messageOf(event)}`)
  }
  const one = listen(first.signal, 'one')
  hub.tell(notice('a'))
  const two = listen(second.signal, 'two')
  hub.tell(notice('b'))
  await new Promise((resolve) => setImmediate(resolve))
  first.abort()
  await one
  hub.tell(notice('c'))
  await new Promise((resolve) => setImmediate(resolve))
  second.abort()
  await two
  expect(heard.toSorted()).toEqual(['one a', 'one b', 'two b', 'two c'])
})

it('keeps a bounded number for who does not read, and what matters longest', async () => {
  const hub = new EventHub()
  const stop = new AbortController()
  const events = hub.listen({ signal: stop.signal })
  const first = events.next()
  hub.tell(notice('first'))
  expect(messageOf((await first).value)).toBe('first')
  const vm = { moref: 'vm-1', name: 'web', instanceUuid: 'i', biosUuid: 'b', vcenterUuid: 'v', path: '/web' }
  hub.tell(notice('kept'))
  const progress = { doneBytes: 1, totalBytes: 2 }
  for (let n = 0; n < 20_001; n++) hub.tell({ type: 'progress', at: '2026-11-26T00:00:00.000Z', run: 'r', vm, progress })
  expect(messageOf((await events.next()).value)).toBe('kept')
  let read = 0
  const reading = (async () => {
    for await (const event of events) read += event.type === 'progress' ? 1 : 0
  })()
  await new Promise((resolve) => setTimeout(resolve, 200))
  stop.abort()
  await reading
  expect(read).toBeLessThanOrEqual(10_000)
})
