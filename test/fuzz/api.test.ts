import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { problemView } from '../../src/api/problem.ts'
import { readAudit } from '../../src/api/index.ts'
import { type ApiWorld, openApiWorld } from '../api-world.ts'
import { type Document, type Operation, requestsOf, type Sent } from './api-requests.ts'
import { heapInUse } from '../heap-in-use.ts'

const SEED = 6_0926
const TIMEOUTS = { headMs: 1500, requestMs: 2500, lookMs: 200 }

let world: ApiWorld
let overSocket: Agent
let overTls: Agent
const operations: (readonly [path: string, method: string, operation: Operation])[] = []

beforeAll(async () => {
  world = await openApiWorld({ timeouts: TIMEOUTS, answerMs: 20_000 })
  overSocket = new Agent({ connect: { socketPath: world.socket }, connections: 4 })
  overTls = new Agent({ connect: { ca: await readFile(world.caFile), servername: 'localhost' }, connections: 4 })
  const { body } = await request('http://agent/openapi.json', { dispatcher: overSocket })
  const document = (await body.json()) as Document
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods))
      if (operation.operationId !== 'events') operations.push([path, method, operation])
  }
})

afterAll(async () => {
  await overSocket.destroy()
  await overTls.destroy()
  await world[Symbol.asyncDispose]()
})

type Answer = { readonly status: number; readonly type: string; readonly text: string }

async function send(
  { method, path, headers, body }: Sent,
  over: Agent,
  origin = 'http://agent',
  extra: Record<string, string> = {},
): Promise<Answer> {
  const answer = await over.request({
    origin,
    method,
    path,
    headers: { ...headers, ...extra },
    ...(body === undefined ? {} : { body }),
  })
  return { status: answer.statusCode, type: String(answer.headers['content-type'] ?? ''), text: await answer.body.text() }
}

/** No defect, no stack, no file name; every refusal is a problem of the documented form. */
function expectProper({ status, type, text }: Answer, sent: Sent): void {
  const what = `${sent.method} ${sent.path.slice(0, 200)} ${sent.body?.slice(0, 200) ?? ''} -> ${status} ${text.slice(0, 300)}`
  expect(status, what).not.toBe(500)
  expect(text, what).not.toMatch(/\bat .*\.[jt]s:\d|node_modules|fastify/i)
  if (status < 400 || sent.method === 'HEAD') return
  expect(type, what).toContain('application/problem+json')
  expect(problemView.safeParse(JSON.parse(text)).success, what).toBe(true)
}

const healthy = async (): Promise<void> =>
  expect((await send({ method: 'GET', path: '/healthz', headers: {}, body: undefined }, overSocket)).status).toBe(200)

describe('requests made from the OpenAPI document', () => {
  it('are answered when they are as the document says, or refused by the agent with a reason', async () => {
    for (const [path, method, operation] of operations) {
      await fc.assert(
        fc.asyncProperty(requestsOf(path, method, operation).valid, async (sent) => {
          const answer = await send(sent, overSocket)
          expectProper(answer, sent)
          // 400 only where the document cannot say it: times out of order, neither a job nor VMs.
          expect(path === '/v1/plan' || path === '/v1/runs' ? [200, 202, 400, 404, 409] : [200, 202, 404, 409, 503]).toContain(
            answer.status,
          )
        }),
        { numRuns: 40, seed: SEED },
      )
    }
    world.control.draining = false
    await healthy()
  })

  it('are refused when they are not, without a defect', async () => {
    const seen = new Map<number, number>()
    for (const [path, method, operation] of operations) {
      await fc.assert(
        fc.asyncProperty(requestsOf(path, method, operation).wrong, async (sent) => {
          const answer = await send(sent, overSocket)
          seen.set(answer.status, (seen.get(answer.status) ?? 0) + 1)
          expectProper(answer, sent)
        }),
        { numRuns: 150, seed: SEED },
      )
    }
    const large: Sent = {
      method: 'POST',
      path: '/v1/runs',
      headers: { 'content-type': 'application/json' },
      body: `{"job":"${'x'.repeat(66_000)}"}`,
    }
    const answer = await send(large, overSocket)
    expectProper(answer, large)
    seen.set(answer.status, 1)
    expect([...seen.keys()]).toEqual(expect.arrayContaining([400, 404, 413, 415]))
    await healthy()
  })

  it('do nothing without a valid token, however they look', async () => {
    const before = world.control.orders.length
    const all = fc.oneof(...operations.flatMap((each) => Object.values(requestsOf(...each))))
    const header = fc.oneof(
      fc.constantFrom(
        '',
        'Bearer',
        'Bearer ',
        'Basic eDp5',
        'Bearer vcb_admin_',
        `Bearer vcb_admin_${'A'.repeat(43)}`,
        `Bearer ${'x'.repeat(5000)}`,
        'Bearer vcb_../../x_AAAA',
        'bearer null',
      ),
      fc.stringMatching(/^[ -~]{0,80}$/),
    )
    await world.token('admin', 'admin')
    await fc.assert(
      fc.asyncProperty(all, header, async (sent, authorization) => {
        const answer = await send(sent, overTls, world.url, { authorization: authorization.trim() })
        expectProper(answer, sent)
        // 400 and 414: no URL at all, which is known before who asks.
        expect([401, 429, 400, 414]).toContain(answer.status)
      }),
      { numRuns: 300, seed: SEED },
    )
    expect(world.control.orders.length).toBe(before)
    const { entries } = await readAudit(world.directory, {})
    const refused = entries.filter(({ outcome }) => outcome === 'refused')
    expect(refused.length).toBeGreaterThan(0)
    expect(refused.length, 'guessing does not fill the log').toBeLessThanOrEqual(10)
    await healthy()
  })
})

/** What came until the server closed the connection, and when. */
async function rawAnswer(socket: Socket, limitMs: number): Promise<{ text: string; closed: boolean }> {
  let text = ''
  socket.setEncoding('latin1').on('data', (part: string) => (text += part))
  socket.on('error', () => undefined) // a reset is an end too
  const closed = await Promise.race([
    new Promise<true>((resolve) => socket.once('close', () => resolve(true))),
    sleep(limitMs, false as const),
  ])
  socket.destroy()
  return { text, closed }
}

describe('raw bytes', () => {
  it('that are no HTTP are refused and the connection closed', async () => {
    const fragments = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
      fc
        .tuple(
          fc.constantFrom('GET', 'POST', 'G E T', '', 'GET\t', 'PRI * HTTP/2.0\r\n\r\nSM'),
          fc.constantFrom('/v1/status', '*', 'http://x/', ' ', '/\u0000', `/${'a'.repeat(9000)}`),
          fc.constantFrom('HTTP/1.1', 'HTTP/9.9', 'HTTP/1.1 x', ''),
          fc.array(
            fc.constantFrom(
              'host: x',
              'host x',
              ': y',
              'content-length: -1',
              'content-length: 1, 2',
              'content-length: 99999999999999999999',
              'transfer-encoding: chunked',
              'transfer-encoding: x',
              'x: \u0000',
              `x: ${'y'.repeat(9000)}`,
              ' folded: z',
              'expect: 200-maybe',
              'upgrade: h2c',
              'connection: upgrade',
            ),
            { maxLength: 5 },
          ),
          fc.constantFrom('\r\n', '\n', '\r'),
          fc.constantFrom('', '0\r\n\r\n', 'zz\r\n', 'FFFFFFFFFFFFFFFFF\r\n', '{"job":"nightly"}'),
        )
        .map(
          ([method, path, version, headers, end, body]) =>
            `${method} ${path} ${version}${end}${headers.map((each) => `${each}${end}`).join('')}${end}${body}`,
        ),
    )
    await fc.assert(
      fc.asyncProperty(fragments, async (bytes) => {
        const socket = connect(world.socket)
        socket.end(bytes, 'latin1')
        const { text, closed } = await rawAnswer(socket, 15_000)
        expect(closed, JSON.stringify(bytes.slice(0, 200))).toBe(true)
        expect(text).not.toContain('HTTP/1.1 500')
        expect(text).not.toMatch(/\.[jt]s:\d/)
      }),
      { numRuns: 150, seed: SEED },
    )
    await healthy()
  })

  it('that come too slowly, or not at all, lose their connection, and others are served meanwhile', async () => {
    const ca = await readFile(world.caFile)
    const open = (kind: number): Socket => {
      const socket: Socket =
        kind % 2 === 0 ? connect(world.socket) : connectTls({ host: '127.0.0.1', port: world.api.port ?? 0, ca, servername: 'localhost' })
      if (kind % 3 === 0) socket.write('GET /v1/status HTTP/1.1\r\nhost: a\r\nx-slow: ')
      if (kind % 3 === 1)
        socket.write('POST /v1/runs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"job"')
      return socket
    }
    const sockets = Array.from({ length: 60 }, (_, index) => open(index))
    const drips = setInterval(() => {
      for (const [index, socket] of sockets.entries()) if (index % 3 !== 2 && socket.writable) socket.write('x')
    }, 50)
    const ended = Promise.all(sockets.map((socket) => rawAnswer(socket, 15_000)))
    await healthy()
    const answers = await ended
    clearInterval(drips)
    expect(answers.filter(({ closed }) => !closed)).toEqual([])
    await healthy()
  })

  it('of many requests in one piece are answered one after the other', async () => {
    const socket = connect(world.socket)
    const one = 'GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n'
    socket.write(one.repeat(49) + one.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'))
    const { text, closed } = await rawAnswer(socket, 15_000)
    expect(closed).toBe(true)
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(50)
    const flood = connect(world.socket)
    flood.end(one.repeat(2000))
    expect((await rawAnswer(flood, 15_000)).text).not.toContain('HTTP/1.1 500')
    await healthy()
  })

  it('of calls whose connection is lost before they are let in are not counted for ever', async () => {
    const one = 'GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n'
    for (let round = 0; round < 30; round++) {
      const socket = connect(world.socket).on('error', () => undefined) // its end is what is wanted
      socket.write(one.repeat(200))
      await new Promise((resolve) => socket.once('data', resolve))
      socket.destroy()
    }
    // No place is lost: as many as may be are answered at once.
    const many = new Agent({ connect: { socketPath: world.socket }, connections: 64 })
    const path = '/v1/plan?from=2026-11-26T00:00:00Z&to=2026-11-27T00:00:00Z'
    world.control.planMs = 2000
    const answers = await Promise.all(Array.from({ length: 60 }, () => send({ method: 'GET', path, headers: {}, body: undefined }, many)))
    world.control.planMs = 0
    await many.destroy()
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
  })

  it('of more calls than are answered at once are told to come again', async () => {
    const many = new Agent({ connect: { socketPath: world.socket }, connections: 100 })
    const path = '/v1/plan?from=2026-11-26T00:00:00Z&to=2026-11-27T00:00:00Z'
    world.control.planMs = 3000
    const answers = await Promise.all(Array.from({ length: 80 }, () => send({ method: 'GET', path, headers: {}, body: undefined }, many)))
    world.control.planMs = 0
    await many.destroy()
    expect(answers.some(({ status, text }) => status === 503 && text.includes('calls are being answered'))).toBe(true)
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(64)
    await healthy()
  })

  it('on more connections than there may be do not end the server', async () => {
    const sockets = Array.from({ length: 300 }, () => connect(world.socket).on('error', () => undefined)) // some are refused
    await sleep(200)
    for (const socket of sockets) socket.destroy()
    await sleep(100)
    await healthy()
  })

  it('leave nothing behind: no defect in the log, no memory held', async () => {
    const sent: Sent = {
      method: 'POST',
      path: '/v1/runs',
      headers: { 'content-type': 'application/json' },
      body: `{"job":"${'x'.repeat(60_000)}"}`,
    }
    for (let round = 0; round < 50; round++) expect((await send(sent, overSocket)).status).toBe(400)
    const before = heapInUse()
    for (let round = 0; round < 500; round++) await send(sent, overSocket)
    expect(heapInUse() - before).toBeLessThan(100e6)
    expect(world.logged.filter((line) => line.includes('defect'))).toEqual([])
  })
})
