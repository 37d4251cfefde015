import { userInfo } from 'node:os'
import { stat, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { type ApiWorld, openApiWorld } from '../../test/api-world.ts'
import { ApiClient, openApi, readAudit } from './index.ts'
import { Secret, systemClock } from '../core/index.ts'
import { ROUTES } from './routes.ts'

let world: ApiWorld
let local: ApiClient
const tokens: Record<'viewer' | 'operator' | 'admin', string> = { viewer: '', operator: '', admin: '' }

beforeAll(async () => {
  world = await openApiWorld({ answerMs: 2000 })
  local = await ApiClient.open({ socket: world.socket })
  for (const role of ['viewer', 'operator', 'admin'] as const) tokens[role] = await world.token(role)
})

afterAll(async () => {
  await local[Symbol.asyncDispose]()
  await world[Symbol.asyncDispose]()
})

type Answer = { status: number; headers: Record<string, string | string[] | undefined>; body: string }

type Sent = { token?: string | undefined; method?: string; body?: string; headers?: Record<string, string>; to?: ApiWorld }

async function call(path: string, { token, method = 'GET', body, headers = {}, to = world }: Sent = {}): Promise<Answer> {
  const ca = await readFile(to.caFile)
  return new Promise((resolve, reject) => {
    const all = {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    }
    const sent = request(`${to.url}${path}`, { method, ca, headers: all, agent: false }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part: string) => (text += part))
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: text }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

const anything = z.unknown()

test('over the socket every route answers what its schema says, and the caller is an admin', async () => {
  const queries: Record<string, Record<string, string>> = { '/v1/plan': { from: '2026-11-26T00:00:00Z', to: '2026-11-27T00:00:00Z' } }
  const bodies: Record<string, unknown> = {
    '/v1/runs': { select: ['web01'] },
    '/v1/cancel': { target: 'web01' },
    '/v1/drain': { on: false },
  }
  for (const { method, path, answer } of ROUTES) {
    if (answer === undefined) continue
    const schema = answer.list === true ? z.array(answer.schema) : answer.schema
    await local.ask({ method, path, query: queries[path], body: bodies[path], answer: schema })
  }
  expect(world.control.orders).toContain(`run {"select":["web01"]} by ${userInfo().username}`)
})

test('only the user of the agent can connect to the socket', async () => {
  expect((await stat(world.socket)).mode & 0o777).toBe(0o600)
})

test('a second agent is refused the socket, and one that a dead agent left is replaced', async () => {
  const again = {
    control: world.control,
    directory: world.directory,
    tcp: undefined,
    clock: systemClock,
    log: { ...console },
    random: () => Buffer.alloc(8),
    version: '',
  }
  await expect(openApi({ ...again, socket: { path: world.socket, group: undefined } })).rejects.toThrow('Another agent listens on')
  const stale = join(world.directory, 'stale.sock')
  await writeFile(stale, '')
  await using api = await openApi({ ...again, socket: { path: stale, group: String(process.getgid?.() ?? 0) } })
  expect((await stat(api.socket ?? '')).mode & 0o777).toBe(0o660)
})

test.each(ROUTES.map(({ method, path }) => [method, path] as const))('%s %s is refused without a valid token', async (method, path) => {
  await using fresh = await openApiWorld()
  const expired = await fresh.token('admin', 'old', new Date(Date.now() - 1))
  const revoked = await fresh.token('admin', 'gone')
  await fresh.tokens.revoke('gone')
  const good = await fresh.token('admin', 'good')
  const other = `${good.slice(0, -1)}${good.endsWith('A') ? 'B' : 'A'}`
  for (const token of [undefined, expired, revoked, other, good.slice(0, -1), 'x']) {
    const answer = await call(path, { method, token, to: fresh, ...(method === 'POST' ? { body: '{' } : {}) })
    expect(answer.status, `with ${token}`).toBe(401)
    expect(answer.headers['content-type']).toContain('application/problem+json')
    expect(answer.headers['www-authenticate']).toContain('Bearer')
  }
  expect(fresh.control.orders).toEqual([])
})

test('a role may what it may and no more', async () => {
  for (const { method, path, role, id } of ROUTES) {
    if (id === 'events') continue
    for (const [index, has] of (['viewer', 'operator', 'admin'] as const).entries()) {
      const { status } = await call(path, { method, token: tokens[has], ...(method === 'POST' ? { body: '[]' } : {}) })
      if (index < ['viewer', 'operator', 'admin'].indexOf(role)) expect(status, `${has} ${path}`).toBe(403)
      else expect([200, 400], `${has} ${path}`).toContain(status)
    }
  }
})

test('what is wrong about a call is told, and nothing of a defect', async () => {
  const answer = await call('/v1/runs', { method: 'POST', token: tokens.operator, body: '{"select":["web01"],"mode":"half","x":1}' })
  expect(answer.status).toBe(400)
  expect(JSON.parse(answer.body)).toMatchObject({
    code: 'USAGE',
    status: 400,
    errors: expect.arrayContaining([expect.objectContaining({ at: 'mode' })]),
  })
  world.control.failWith = new TypeError('secret inner thing at /home/x.ts:1')
  const defect = await call('/v1/reload', { method: 'POST', token: tokens.admin })
  expect(defect.status).toBe(500)
  expect(defect.body).not.toContain('secret')
  expect(defect.body).not.toContain('.ts')
  expect(world.logged.join('\n')).toContain('secret inner thing')
  expect(
    JSON.parse((await call('/v1/plan?from=2026-11-26T00:00:00Z&to=2026-11-27T00:00:00Z&job=none', { token: tokens.viewer })).body),
  ).toMatchObject({
    code: 'NOT_FOUND',
    status: 404,
    detail: 'There is no job named none.',
  })
  expect((await call('/v1/nothing', { token: tokens.viewer })).status).toBe(404)
  expect((await call('/v1/nothing')).status).toBe(401)
})

test('the bounds hold: body, url, head, kind of body, and the wait for an answer', async () => {
  const { admin } = tokens
  expect((await call('/v1/runs', { method: 'POST', token: admin, body: JSON.stringify({ job: 'x'.repeat(70_000) }) })).status).toBe(413)
  expect((await call(`/v1/history?job=${'x'.repeat(5000)}`, { token: admin })).status).toBe(414)
  expect((await call('/v1/status', { token: admin, headers: { 'x-long': 'x'.repeat(9000) } })).status).toBe(431)
  expect(
    (await call('/v1/runs', { method: 'POST', token: admin, body: '<x/>', headers: { 'content-type': 'application/xml' } })).status,
  ).toBe(415)
  expect((await call('/v1/runs', { method: 'POST', token: admin, body: '{"__proto__":{"a":1},"job":"nightly"}' })).status).toBe(400)
  world.control.planMs = 30_000
  expect((await call('/v1/plan?from=2026-11-26T00:00:00Z&to=2026-11-27T00:00:00Z', { token: admin })).status).toBe(503)
  world.control.planMs = 0
})

test('answers carry headers that keep browsers and caches out', async () => {
  for (const path of ['/v1/status', '/metrics', '/nothing']) {
    const { headers } = await call(path, { token: tokens.viewer, headers: { origin: 'https://elsewhere' } })
    expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY' })
    expect(headers['access-control-allow-origin']).toBeUndefined()
  }
})

test('who guesses tokens is made to wait, and the counted wait ends', async () => {
  await using fresh = await openApiWorld()
  const token = await fresh.token('viewer')
  for (let tried = 0; tried < 10; tried++) expect((await call('/healthz', { token: 'wrong', to: fresh })).status).toBe(401)
  const answer = await call('/healthz', { token, to: fresh })
  expect(answer.status).toBe(429)
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(50)
})

test('orders stand in the audit log before and after, refused calls too, and no token ever', async () => {
  await call('/v1/drain', { method: 'POST', token: tokens.operator, body: '{"on":true}' })
  await call('/v1/cancel', { method: 'POST', token: tokens.operator, body: '{"target":"nobody"}' })
  await call('/v1/drain', { method: 'POST', token: tokens.admin, body: '{"on":true}' })
  const { entries, damaged } = await readAudit(world.directory, {})
  expect(damaged).toBe(0)
  expect(entries).toContainEqual(
    expect.objectContaining({
      by: 'operator',
      role: 'operator',
      via: '127.0.0.1',
      action: 'POST /v1/drain',
      outcome: 'refused',
      code: '403',
    }),
  )
  const canceled = entries.filter(({ target }) => JSON.stringify(target) === '{"target":"nobody"}')
  expect(canceled.map(({ outcome, code }) => [outcome, code])).toEqual([
    ['asked', undefined],
    ['failed', 'NOT_FOUND'],
  ])
  expect(
    entries
      .filter(({ by, action }) => by === 'admin' && action === 'drain')
      .map(({ outcome }) => outcome)
      .slice(-2),
  ).toEqual(['asked', 'done'])
  expect((await stat(join(world.directory, 'audit.jsonl'))).mode & 0o777).toBe(0o600)
  const text = JSON.stringify(entries)
  for (const token of Object.values(tokens)) expect(text).not.toContain(token.slice(-43))
  const ready = await call('/readyz', { token: tokens.viewer })
  expect([ready.status, (JSON.parse(ready.body) as { next: string }).next]).toEqual([503, 'End that with POST /v1/drain {"on": false}.'])
  await call('/v1/drain', { method: 'POST', token: tokens.admin, body: '{"on":false}' })
})

test('the client follows a pin or a CA, tells the problem as it was told, and refuses another certificate', async () => {
  const token = new Secret(tokens.viewer)
  for (const trust of [{ caFile: world.caFile }, { thumbprint: world.thumbprint }]) {
    await using client = await ApiClient.open({ url: world.url.replace('127.0.0.1', 'localhost'), token, trust })
    expect(await client.ask({ method: 'GET', path: '/healthz', answer: anything })).toEqual({ status: 'ok' })
    await expect(client.ask({ method: 'POST', path: '/v1/reload', answer: anything })).rejects.toMatchObject({
      code: 'AUTH',
      message: 'The token viewer has the role viewer; this needs admin.',
    })
  }
  await using wrong = await ApiClient.open({ url: world.url, token, trust: { thumbprint: 'ab'.repeat(32) } })
  await expect(wrong.ask({ method: 'GET', path: '/healthz', answer: anything })).rejects.toMatchObject({ code: 'AUTH' })
  await expect(ApiClient.open({ url: 'http://127.0.0.1:1', token, trust: {} })).rejects.toThrow('is not the address of an agent')
})

test('the document is valid OpenAPI by a validator that is not ours, and names every route', async () => {
  const document: Record<string, unknown> = await local.ask({
    method: 'GET',
    path: '/openapi.json',
    answer: z.record(z.string(), z.unknown()),
  })
  const validator = new Validator()
  const { valid, errors } = await validator.validate(document)
  expect(errors ?? []).toEqual([])
  expect(valid).toBe(true)
  expect(validator.version).toBe('3.1')
  const paths = document['paths'] as Record<string, Record<string, unknown>>
  expect(ROUTES.every(({ path, method }) => paths[path]?.[method.toLowerCase()] !== undefined)).toBe(true)
  const history = JSON.stringify(paths['/v1/history'])
  expect(history).toContain('"name":"limit"')
})
