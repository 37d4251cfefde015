import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, request as tlsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/core/index.ts'
import { loadCertificate, type ServerCertificate } from '../../src/lab/wire/certificate.ts'
import { FROM_SOURCES } from '../crash/commands.ts'
import { freePort } from '../free-port.ts'
import { secretFinder } from '../secret-finder.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

/*
 * No secret is in anything that is written or shown, at level debug, while logins fail and servers answer with what they were sent: logs, the state directory as it lies on
 * disk, what every command prints, the control API. Searched for as it is, and in base64 at every offset, hex, URL, JSON and XML encoding.
 */

/** Each unlike any other text, with signs that encodings change. */
const secretOf = (kind: string): string => `${kind}+pw/Zq7%&ü=9xK`
const SECRETS = {
  vcenter: secretOf('vcenter'),
  wrongVcenter: secretOf('wrong-vcenter'),
  repository: secretOf('repository'),
  wrongRepository: secretOf('wrong-repository'),
  second: secretOf('second-key'),
  rest: secretOf('rest'),
  sftp: secretOf('sftp'),
  s3: secretOf('s3-secret-key'),
  s3Session: 'S3session+token/Zq7=9xKwwpq',
  database: secretOf('database'),
  esxi: secretOf('esxi'),
  guest: secretOf('guest'),
  mail: secretOf('mail'),
  webhook: '/services/T0HOOK/aZq7pathOfTheHook9xK',
  signature: secretOf('signature'),
  wrongToken: `vcb_admin_${'wR0ngT0ken'.repeat(4)}xyz`,
} as const

let session: LabSession
let certificate: ServerCertificate
let mirror: Server
let tlsMirror: Server
let tokens: Record<string, string>
/** What `vcb key add --random` drew. */
let drawn = ''
const shown: { what: string; text: string }[] = []
/** What the mirrors were sent: that there was something to leak. */
let sent = ''

/** Answers with an error that repeats what it was sent, as a page for developers does: a vCenter to the login, everything else to everything. */
async function reflect(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  const body = Buffer.concat(pieces)
  const isVcenter = request.url?.startsWith('/sdk') === true
  if (isVcenter && !body.includes('<Login')) return forward(request, body, response)
  const said = `${request.method} ${request.url}\n${request.rawHeaders.join(' ')}\n${body.toString('utf8')}`
  sent += said
  const xml = said.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  response.writeHead(isVcenter ? 500 : 403, { 'content-type': 'text/xml', 'x-message': encodeURI(said.slice(0, 2000)) })
  response.end(
    isVcenter
      ? `<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><e:Fault><faultcode>ServerFaultCode</faultcode><faultstring>${xml}</faultstring></e:Fault></e:Body></e:Envelope>`
      : `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>${xml}</Message></Error>`,
  )
}

/** To the lab, whose certificate is its own. */
function forward({ method, url = '/', headers }: IncomingMessage, body: Buffer, response: ServerResponse): void {
  const asked = tlsRequest(new URL(url, session.lab.endpoints.vcenter.url), { method, headers, rejectUnauthorized: false }, (answer) => {
    response.writeHead(answer.statusCode ?? 500, answer.headers)
    answer.pipe(response)
  })
  asked.on('error', () => response.destroy())
  asked.end(body)
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port
const secretFile = (name: string): string => join(session.directory, 'secrets', name)

async function vcb(
  environment: Readonly<Record<string, string | undefined>>,
  ...argv: readonly string[]
): Promise<{ exit: number; out: string; err: string }> {
  const result = await session.vcbWith(environment, ...argv)
  shown.push({ what: argv.join(' '), text: result.out + result.err })
  return result
}

beforeAll(async () => {
  session = await openLabSession()
  await mkdir(join(session.directory, 'secrets'))
  for (const [name, secret] of Object.entries(SECRETS)) await writeFile(secretFile(name), `${secret}\n`, { mode: 0o600 })
  certificate = await loadCertificate(join(session.directory, 'secrets'), '127.0.0.1', systemClock.now())
  mirror = createServer((request, response) => void reflect(request, response))
  tlsMirror = createTlsServer(
    { cert: certificate.certificate, key: certificate.privateKey },
    (request, response) => void reflect(request, response),
  )
  for (const server of [mirror, tlsMirror]) await once(server.listen(0, '127.0.0.1'), 'listening')
  session.environment['VCB_REPO_PASSWORD_FILE'] = secretFile('repository')
  session.environment['VCB_LOG_LEVEL'] = 'debug'
})
afterAll(async () => {
  for (const server of [mirror, tlsMirror]) {
    server.closeAllConnections()
    server.close()
  }
  await session[Symbol.asyncDispose]()
})

it('the finder finds each of them in each of its disguises', () => {
  const find = secretFinder(SECRETS)
  for (const [name, secret] of Object.entries(SECRETS)) {
    const bytes = Buffer.from(secret)
    const disguised = [
      secret,
      encodeURIComponent(secret),
      encodeURI(secret),
      JSON.stringify(secret).slice(1, -1),
      bytes.toString('hex'),
      bytes.toString('hex').toUpperCase(),
      ...['', 'a:', 'ab:'].flatMap((before) =>
        ['base64', 'base64url'].map((kind) => Buffer.from(`${before}${secret}:z`).toString(kind as 'base64')),
      ),
    ]
    for (const text of disguised) expect(find(Buffer.from(`before ${text} after`)), text).toContain(name)
  }
  expect(find(Buffer.from('nothing of it'))).toEqual([])
})

it('commands that succeed, and logins and servers that fail', async () => {
  await vcb({}, 'init')
  expect((await vcb({}, 'backup', 'web01', '--quiesce', 'none')).exit).toBe(0)
  for (const argv of [['points'], ['status'], ['history'], ['config', 'explain'], ['audit']]) await vcb({}, ...argv)
  expect((await vcb({}, 'key', 'add', '--random', secretFile('drawn'), '--json')).exit).toBe(0)
  drawn = (await readFile(secretFile('drawn'), 'utf8')).trim()
  const withDrawn = { VCB_REPO_PASSWORD_FILE: secretFile('drawn') }
  for (const argv of [['key', 'list'], ['key', 'list', '--json'], ['points'], ['config', 'explain']])
    expect((await vcb(withDrawn, ...argv)).exit).toBe(0)
  expect((await vcb({}, 'key', 'add', '--password-file', secretFile('second'))).exit).toBe(0)
  const failing: readonly (readonly [Record<string, string>, readonly string[]])[] = [
    [{ VCB_PASSWORD_FILE: secretFile('wrongVcenter') }, ['vms']],
    [
      {
        VCB_VCENTER: `https://127.0.0.1:${portOf(tlsMirror)}/sdk`,
        VCB_THUMBPRINT: certificate.thumbprints.sha256,
        VCB_PASSWORD_FILE: secretFile('vcenter'),
      },
      ['vms'],
    ],
    [
      {
        VCB_VCENTER: `https://127.0.0.1:${portOf(tlsMirror)}/sdk`,
        VCB_THUMBPRINT: certificate.thumbprints.sha256,
        VCB_PASSWORD_FILE: secretFile('vcenter'),
      },
      ['doctor'],
    ],
    [{ VCB_REPO_PASSWORD_FILE: secretFile('wrongRepository') }, ['points']],
    [{}, ['key', 'add', '--random', secretFile('drawn')]],
    [{ VCB_REPO_PASSWORD_FILE: secretFile('wrongRepository') }, ['key', 'add', '--random', secretFile('never')]],
    [
      {
        VCB_STATE_URL: `postgres://vcb@127.0.0.1:${portOf(mirror)}/vcb`,
        VCB_STATE_PASSWORD_FILE: secretFile('database'),
        VCB_STATE_DIR: join(session.directory, 'other'),
      },
      ['status'],
    ],
  ]
  for (const [environment, argv] of failing) expect((await vcb(environment, ...argv)).exit, argv.join(' ')).not.toBe(0)
  const config = join(session.directory, 'servers.yaml')
  const closed = await freePort()
  const places: readonly (readonly [string, object])[] = [
    [`rest:http://127.0.0.1:${portOf(mirror)}/vms/`, { rest: { user: 'vcb', passwordFile: secretFile('rest') } }],
    [
      `rest:https://127.0.0.1:${portOf(tlsMirror)}/vms/`,
      { rest: { user: 'vcb', passwordFile: secretFile('rest'), thumbprint: certificate.thumbprints.sha256 } },
    ],
    [
      `s3:http://127.0.0.1:${portOf(mirror)}/bucket/vms`,
      {
        s3: {
          accessKeyId: 'AKIDEXAMPLE',
          secretAccessKeyFile: secretFile('s3'),
          sessionTokenFile: secretFile('s3Session'),
          region: 'us-east-1',
        },
      },
    ],
    [`sftp://vcb@127.0.0.1:${closed}//vms`, { ssh: { passwordFile: secretFile('sftp'), hostKey: `SHA256:${'A'.repeat(43)}` } }],
    [`sftp://vcb@127.0.0.1:${portOf(mirror)}//vms`, { ssh: { passwordFile: secretFile('sftp'), hostKey: `SHA256:${'A'.repeat(43)}` } }],
  ]
  for (const [url, login] of places) {
    await writeFile(config, JSON.stringify({ repository: { url, ...login }, resume: { attempts: 1 } }))
    for (const argv of [['points'], ['backup', 'web01', '--quiesce', 'none'], ['config', 'explain'], ['config', 'check']]) {
      const { exit } = await vcb({ VCB_REPO: undefined, VCB_CONFIG: config }, ...argv)
      if (argv[0] !== 'config') expect(exit, url).not.toBe(0)
    }
  }
  await writeFile(
    config,
    JSON.stringify({
      ssh: {
        hosts: {
          'esx1.lab.test': {
            address: '127.0.0.1',
            port: portOf(mirror),
            passwordFile: secretFile('esxi'),
            hostKey: `SHA256:${'A'.repeat(43)}`,
          },
        },
      },
      guestScripts: [{ vms: ['*'], preFreeze: '/opt/pre', postThaw: '/opt/post', user: 'backup', passwordFile: secretFile('guest') }],
    }),
  )
  for (const argv of [['doctor'], ['config', 'check'], ['backup', 'db01', '--quiesce', 'try']]) await vcb({ VCB_CONFIG: config }, ...argv)
})

it('an agent whose runs fail, whose notices are refused, and whose callers have wrong tokens', async () => {
  const config = join(session.directory, 'agent.yaml')
  const port = await freePort()
  await writeFile(
    config,
    JSON.stringify({
      api: {
        listen: `127.0.0.1:${port}`,
        tls: { certificate: join(session.directory, 'secrets', 'server.pem'), key: join(session.directory, 'secrets', 'server.key') },
      },
      notices: {
        hook: {
          webhook: { urlFile: secretFile('hookUrl'), secretFile: secretFile('signature') },
          caFile: join(session.directory, 'secrets', 'server.pem'),
          on: ['failure', 'success'],
          gather: '1s',
        },
        mail: {
          mail: {
            server: `smtps://127.0.0.1:${portOf(tlsMirror)}`,
            from: 'a@example.com',
            to: ['b@example.com'],
            user: 'backup',
            passwordFile: secretFile('mail'),
          },
          on: ['failure', 'success'],
          gather: '1s',
        },
      },
      jobs: [{ name: 'nightly', select: ['web01'], cron: '0 3 * * *', timeZone: 'UTC', quiesce: 'none', notices: ['hook', 'mail'] }],
    }),
  )
  await writeFile(secretFile('hookUrl'), `https://127.0.0.1:${portOf(tlsMirror)}${SECRETS.webhook}\n`, { mode: 0o600 })
  const environment = { VCB_CONFIG: config }
  tokens = {}
  for (const role of ['viewer', 'admin']) {
    // The one place that shows a token, once: to whoever made it.
    tokens[role] = (await session.vcbWith(environment, 'token', 'add', role, '--role', role, '--json')).json().token
  }
  const child = spawn(process.execPath, [FROM_SOURCES.command, 'agent'], {
    env: { PATH: process.env['PATH'], HOME: session.directory, ...session.environment, ...environment, VCB_DEBUG: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = once(child, 'exit')
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()))
  try {
    while (!said.includes('The agent runs') && child.exitCode === null) await systemClock.sleep(20)
    expect(child.exitCode, said).toBeNull()
    const call = (method: string, path: string, token: string | undefined): Promise<string> =>
      new Promise((resolve, reject) => {
        const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
        const asked = tlsRequest(
          { host: '127.0.0.1', port, method, path, headers, ca: certificate.certificate, checkServerIdentity: () => undefined },
          (answer) => {
            let text = JSON.stringify(answer.headers)
            answer.on('data', (chunk: Buffer) => (text += chunk.toString()))
            answer.on('end', () => resolve(text))
          },
        )
        asked.on('error', reject)
        asked.end()
      })
    for (const token of [undefined, SECRETS.wrongToken, tokens['viewer'], tokens['admin']])
      for (const [method, path] of [
        ['GET', '/metrics'],
        ['GET', '/v1/status'],
        ['GET', '/v1/history'],
        ['GET', '/v1/jobs'],
        ['POST', '/v1/reload'],
        ['GET', `/v1/none?token=${encodeURIComponent(token ?? '')}`],
      ] as const) {
        const answer = await call(method, path, token)
        // What the caller itself put into the address comes back to it alone.
        shown.push({
          what: `${method} ${path.split('?')[0]}`,
          text: path.includes('?') && token !== undefined ? answer.replaceAll(encodeURIComponent(token), '') : answer,
        })
      }
    await session.lab.control.fault({ on: 'CreateSnapshotEx_Task', object: 'web01', fault: 'NoPermission' })
    await vcb(environment, 'run', 'nightly', '--wait')
    await session.lab.control.clearFaults()
    await vcb(environment, 'run', 'nightly', '--wait')
    for (const argv of [
      ['notices', 'test', 'hook'],
      ['notices', 'test', 'mail'],
      ['notices', 'list'],
      ['status', '--json'],
      ['history', '--json'],
      ['audit'],
      ['audit', '--json'],
      ['token', 'list'],
      ['reload'],
      ['config', 'explain'],
    ])
      await vcb(environment, ...argv)
    for (const argv of [['status'], ['watch']])
      await vcb(
        {
          ...environment,
          VCB_AGENT: `https://127.0.0.1:${port}`,
          VCB_TOKEN_FILE: secretFile('wrongToken'),
          VCB_AGENT_THUMBPRINT: certificate.thumbprints.sha256,
        },
        ...argv,
      )
  } finally {
    child.kill('SIGTERM')
    await ended
  }
  shown.push({ what: 'the agent', text: said })
})

it('left none of them in what is on disk or was shown', async () => {
  const lab = (await readFile(session.lab.passwordFile, 'utf8')).trim()
  expect(drawn).toMatch(/^[\w-]{43}$/)
  const find = secretFinder({ ...SECRETS, ...tokens, lab, drawn })
  const found: string[] = []
  let bytes = 0
  for (const { what, text } of shown) found.push(...find(Buffer.from(text)).map((name) => `${name} in what "vcb ${what}" shows`))
  const names = await readdir(session.directory, { recursive: true, withFileTypes: true })
  for (const entry of names) {
    const path = join(entry.parentPath, entry.name)
    const at = path.slice(session.directory.length + 1)
    if (!entry.isFile() || /^(?:lab|secrets|repo)\//.test(at) || at === 'repo-password') continue
    const data = await readFile(path)
    bytes += data.length
    found.push(...find(data).map((name) => `${name} in ${at}`))
  }
  expect(found).toEqual([])
  expect(find(Buffer.from(sent)).toSorted()).toEqual(['rest', 's3Session', 'vcenter', 'webhook'])
  const log = await readFile(join(session.directory, 'vcb.log'), 'utf8')
  const lines: Json[] = log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(new Set(lines.map(({ level }) => level))).toEqual(new Set(['debug', 'info', 'warn', 'error']))
  expect([bytes > 50_000, shown.length > 50, lines.filter(({ run }) => run !== undefined).length > 5]).toEqual([true, true, true])
})
