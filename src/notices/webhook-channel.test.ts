import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFile, mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { makeCertificate } from '../../test/certificate.ts'
import { freePort } from '../../test/free-port.ts'
import { HOSTILE, runOf, vmNamed } from '../../test/notices-world.ts'
import { requirePeer } from '../../test/peer.ts'
import { Secret, systemClock } from '../core/index.ts'
import { composeNotice } from './compose-notice.ts'
import { WebhookChannel, type WebhookSettings } from './webhook-channel.ts'

const notice = composeNotice(
  [{ version: 1, id: 'ab01', at: '2026-11-25T21:14:02.000Z', kind: 'run', event: 'success', record: runOf(vmNamed(HOSTILE)) }],
  { proxy: 'proxy01', timeZone: 'UTC', at: new Date('2026-11-25T21:15:00.000Z'), dropped: 0 },
)

type Got = {
  readonly method: string | undefined
  readonly url: string | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: string
}
const servers: Server[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
})

async function listen(
  server: Server,
  answer: (request: Got, response: ServerResponse) => void,
): Promise<{ readonly port: number; readonly got: Got[] }> {
  const got: Got[] = []
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    let body = ''
    request.on('data', (piece: Buffer) => (body += piece.toString('utf8')))
    request.on('end', () => {
      const { method, url, headers } = request
      got.push({ method, url, headers, body })
      answer({ method, url, headers, body }, response)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  servers.push(server)
  return { port: (server.address() as { port: number }).port, got }
}

const channel = (url: string, over: Partial<WebhookSettings> = {}) =>
  new WebhookChannel({
    url: () => Promise.resolve(new Secret(url)),
    key: undefined,
    ca: undefined,
    patienceMs: 5000,
    clock: systemClock,
    ...over,
  })

const failure = (sent: Promise<void>): Promise<unknown> =>
  sent.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )

describe('a webhook', () => {
  test('gets JSON, signed so that openssl comes to the same signature', async () => {
    const openssl = requirePeer('openssl')
    const { port, got } = await listen(createServer(), (_, response) => response.writeHead(204).end())
    const key = 'shared key ✓'
    await channel(`http://127.0.0.1:${port}/hook?token=abc`, { key: () => Promise.resolve(new Secret(key)) }).send(notice, {})
    const [request] = got
    expect(request).toMatchObject({ method: 'POST', url: '/hook?token=abc' })
    expect(request?.headers).toMatchObject({ 'content-type': 'application/json', 'x-vcb-delivery': 'ab01' })
    const { 'x-vcb-timestamp': timestamp, 'x-vcb-signature': signature } = request?.headers ?? {}
    expect(Math.abs(Number(timestamp) - Date.now() / 1000)).toBeLessThan(60)
    const hex = Buffer.from(key).toString('hex')
    const ours = execFileSync(openssl, ['dgst', '-sha256', '-mac', 'HMAC', '-macopt', `hexkey:${hex}`], {
      input: `${String(timestamp)}.${request?.body}`,
      encoding: 'utf8',
    })
    expect(signature).toBe(`sha256=${/[0-9a-f]{64}/.exec(ours)?.[0]}`)
    expect(JSON.parse(request?.body ?? '')).toMatchObject({
      version: 1,
      id: 'ab01',
      kind: 'runs',
      severity: 'info',
      report: { counts: { succeeded: 1, failed: 0 }, succeeded: [{ vm: { name: HOSTILE }, job: 'production' }] },
    })
  })

  test('without a key is not signed', async () => {
    const { port, got } = await listen(createServer(), (_, response) => response.end('ok'))
    await channel(`http://127.0.0.1:${port}`).send(notice, {})
    expect(got[0]?.headers['x-vcb-signature']).toBeUndefined()
  })

  test.each([
    [301, 'CONFIG'],
    [307, 'CONFIG'],
    [404, 'CONFIG'],
    [403, 'AUTH'],
    [429, 'UNAVAILABLE'],
    [503, 'UNAVAILABLE'],
  ])('that answers %i is %s; a redirect is not followed; no path is in the error', async (status, code) => {
    const { port: elsewhere, got } = await listen(createServer(), (_, response) => response.end())
    const { port } = await listen(createServer(), (_, response) =>
      response.writeHead(status, { location: `http://127.0.0.1:${elsewhere}/` }).end(`no ${'x'.repeat(100_000)}`),
    )
    const error = await failure(channel(`http://127.0.0.1:${port}/s3cret-path`).send(notice, {}))
    expect(error).toMatchObject({ code, message: expect.stringContaining(`answered ${status}: no xxx`) })
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('s3cret-path')
    expect((error as Error).message.length).toBeLessThan(400)
    expect(got).toEqual([])
  })

  test('that repeats its own address, login or key in its answer is not quoted', async () => {
    for (const said of [
      'Cannot POST /s3cret-path',
      'no hook &#47;s3cretpath2',
      `Basic ${Buffer.from('me:pa ss').toString('base64')}`,
      'pa ss',
      'bad key k3y-of-hook',
    ]) {
      const { port } = await listen(createServer(), (_, response) => response.writeHead(404).end(`<pre>${said}</pre>`))
      const at = `http://me:pa%20ss@127.0.0.1:${port}/s3cret-path/s3cretpath2`
      const error = await failure(channel(at, { key: () => Promise.resolve(new Secret('k3y-of-hook')) }).send(notice, {}))
      expect(error).toMatchObject({ code: 'CONFIG', message: `The webhook http://127.0.0.1:${port} answered 404.` })
    }
  })

  test('gets the login of its address', async () => {
    const { port, got } = await listen(createServer(), (_, response) => response.end())
    await channel(`http://me:pa%20ss@127.0.0.1:${port}/`).send(notice, {})
    expect(got[0]?.headers.authorization).toBe(`Basic ${Buffer.from('me:pa ss').toString('base64')}`)
  })

  test('over TLS only where somebody vouches for the certificate', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'vcb-webhook-'))
    try {
      const { certificate, key } = makeCertificate(requirePeer('openssl'), directory)
      const pem = await readFile(certificate, 'utf8')
      const { port, got } = await listen(createTlsServer({ cert: pem, key: await readFile(key) }), (_, response) => response.end())
      await expect(channel(`https://127.0.0.1:${port}/s3cret`).send(notice, {})).rejects.toMatchObject({ code: 'AUTH' })
      expect(got).toEqual([])
      await channel(`https://127.0.0.1:${port}/`, { ca: () => Promise.resolve(pem) }).send(notice, {})
      expect(got).toHaveLength(1)
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  test('that is away, or does not answer in time, is UNAVAILABLE; a cancel ends it at once', async () => {
    await expect(channel(`http://127.0.0.1:${await freePort()}/`).send(notice, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const { port, got } = await listen(createServer(), () => undefined)
    await expect(channel(`http://127.0.0.1:${port}/`, { patienceMs: 200 }).send(notice, {})).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('within 0.2 s'),
    })
    const stop = new AbortController()
    const sent = channel(`http://127.0.0.1:${port}/`).send(notice, { signal: stop.signal })
    while (got.length < 2) await systemClock.sleep(10)
    stop.abort()
    await expect(sent).rejects.toMatchObject({ code: 'CANCELED' })
  })

  test('address is no URL of the web: CONFIG without it', async () => {
    await expect(channel('file:///etc/passwd').send(notice, {})).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.not.stringContaining('passwd'),
    })
  })
})
