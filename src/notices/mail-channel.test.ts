import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { createTransport } from 'nodemailer'
import { describe, expect, test } from 'vitest'
import { A_NIGHT, ANY, HOSTILE, runOf, vmNamed } from '../../test/notices-world.ts'
import { requirePeer } from '../../test/peer.ts'
import { freePort } from '../../test/free-port.ts'
import { type SmtpServerOptions, startSmtpServer } from '../../test/smtp-server.ts'
import { Secret, systemClock, type VmRef } from '../core/index.ts'
import { composeNotice } from './compose-notice.ts'
import { MailChannel, type MailSettings } from './mail-channel.ts'
import { mailMessage } from './mail-message.ts'
import type { Notice } from './notice.ts'

const noticeOf = (vm: VmRef): Notice =>
  composeNotice(
    [
      {
        version: 1,
        id: 'ab01',
        at: '2026-11-25T21:14:02.000Z',
        kind: 'run',
        event: 'failure',
        record: { ...(A_NIGHT.records[3] ?? runOf(vmNamed('x'))), vm },
      },
    ],
    { proxy: 'prøxy01', timeZone: 'Europe/Berlin', at: new Date('2026-11-25T21:15:00.000Z'), dropped: 0 },
  )
const notice = noticeOf(vmNamed(HOSTILE))
const LOGIN = { user: 'backup', password: 'korrekt "horse" ✓' }

const start = (options: SmtpServerOptions) => startSmtpServer(requirePeer('aiosmtpd'), requirePeer('openssl'), options)
const channel = (port: number, over: Partial<MailSettings> = {}) =>
  new MailChannel({
    host: '127.0.0.1',
    port,
    security: 'starttls',
    ca: undefined,
    login: undefined,
    from: 'Sicherung <backup@example.com>',
    to: ['alice@example.com', 'bob@example.com'],
    patienceMs: 5000,
    clock: systemClock,
    ...over,
  })
const login = (password: string) => ({ user: LOGIN.user, password: () => Promise.resolve(new Secret(password)) })

describe('mail, taken by a real server and read by a parser that is not ours', () => {
  test.each(['starttls', 'tls'] as const)('over %s with a login', async (security) => {
    await using server = await start({ security, login: LOGIN })
    await channel(server.port, { security, ca: server.ca, login: login(LOGIN.password) }).send(notice, {})
    const [mail, ...more] = await server.mails()
    expect(more).toEqual([])
    expect(mail?.envelope).toEqual({
      from: 'backup@example.com',
      to: ['alice@example.com', 'bob@example.com'],
      login: LOGIN.user,
      tls: true,
    })
    expect(mail?.parts).toEqual(['multipart/alternative', 'text/plain', 'text/html'])
    expect(mail?.headers).toMatchObject({
      'message-id': '<ab01@example.com>',
      'auto-submitted': 'auto-generated',
      from: 'Sicherung <backup@example.com>',
    })
    // The second line that the VM's name wants to make of the header stays in the first.
    expect(mail?.headers['subject']).toBe(
      `vcb prøxy01: backup of <img src=x onerror="a()">&'\\u000d\\u000aOK\\u001b[31m\\u202e failed (CAPACITY)`,
    )
    expect(mail?.headers['ok']).toBeUndefined()
    expect(mail?.text).toContain('CAPACITY: The datastore ds1 has 1.0 GiB free. Free space on it.')
    expect(mail?.html).toContain('&lt;img src=x')
  })

  test('a certificate that nobody vouches for: no login, no mail', async () => {
    await using server = await start({ security: 'starttls', login: LOGIN })
    await expect(channel(server.port, { login: login(LOGIN.password) }).send(notice, {})).rejects.toMatchObject({
      code: 'AUTH',
      message: expect.stringMatching(/cannot be trusted: .*self.signed/i),
    })
    expect(await server.mails()).toEqual([])
  })

  test('a server that has no STARTTLS gets neither login nor mail', async () => {
    await using server = await start({ security: 'none' })
    await expect(channel(server.port).send(notice, {})).rejects.toMatchObject({ code: 'AUTH', message: expect.stringMatching(/STARTTLS/) })
    expect(await server.mails()).toEqual([])
    await channel(server.port, { security: 'none' }).send(notice, {})
    expect((await server.mails())[0]?.envelope.tls).toBe(false)
  })

  test('a wrong password is AUTH, and is not in the error', async () => {
    await using server = await start({ security: 'tls', login: LOGIN })
    const sent = channel(server.port, { security: 'tls', ca: server.ca, login: login('wrong-password') }).send(notice, {})
    const error = await sent.then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    expect(error).toMatchObject({ code: 'AUTH', message: expect.stringMatching(/refused the login/) })
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toMatch(/wrong-password|d3JvbmctcGFzc3dvcmQ/)
  })

  test('a server that repeats the login in its answer is not quoted', async () => {
    const plain = Buffer.from(`\0${LOGIN.user}\0${LOGIN.password}`).toString('base64')
    for (const said of [plain, LOGIN.password, 'korrekt']) {
      await using server = await scripted((line) =>
        line.startsWith('EHLO') ? '250-hello\r\n250 AUTH PLAIN' : line.startsWith('AUTH') ? `500 what is ${said}?` : '250 ok',
      )
      const thrown = await channel(server.port, { security: 'none', login: login(LOGIN.password) })
        .send(notice, {})
        .then(
          () => undefined,
          (error: unknown) => error,
        )
      expect(thrown).toMatchObject({ code: 'AUTH', message: expect.stringContaining('refused the login: EAUTH 500.') })
      expect(inspect(thrown)).not.toContain(said)
    }
  })

  test('a server that answers each command just in time is given up all the same', async () => {
    await using server = await scripted(async () => {
      await systemClock.sleep(40)
      return '250-and more'
    })
    await expect(channel(server.port, { security: 'none', patienceMs: 100 }).send(notice, {})).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    })
  })

  test('a mail that the server refuses is CONFIG with its words', async () => {
    await using server = await start({ security: 'tls', refuse: '552 too much for me' })
    await expect(channel(server.port, { security: 'tls', ca: server.ca }).send(notice, {})).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringMatching(/too much for me/),
    })
  })

  test('a server that is away, and one that says nothing, are UNAVAILABLE', async () => {
    await expect(channel(await freePort()).send(notice, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as { port: number }
    await expect(channel(port, { patienceMs: 300 }).send(notice, {})).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const stop = new AbortController()
    const sent = channel(port, { patienceMs: 60_000 }).send(notice, { signal: stop.signal })
    await once(silent, 'connection')
    stop.abort()
    await expect(sent).rejects.toMatchObject({ code: 'CANCELED' })
    silent.close()
  })
})

test('whatever a VM is called, the subject is one header, says that name, and no header is added', async () => {
  const names = [
    HOSTILE,
    '=?utf-8?q?=0d=0aBcc:_x@y?=',
    'a\r\nBcc: eve@example.com\r\n\r\nbody',
    '\ud800half',
    ...fc.sample(fc.string({ unit: ANY, maxLength: 100 }), { numRuns: 60, seed: 13 }),
    ...fc.sample(fc.string({ unit: fc.constantFrom('\r', '\n', ' ', ':', '=', '?', 'ü', '😀', 'a'), maxLength: 300 }), {
      numRuns: 60,
      seed: 17,
    }),
  ]
  const transport = createTransport({ streamTransport: true, buffer: true })
  const notices = names.map((name) => noticeOf(vmNamed(name)))
  const raw: string[] = []
  for (const each of notices) {
    const sent = await transport.sendMail(mailMessage(each, { from: 'Backup <b@example.com>', to: ['a@example.com'] }))
    raw.push((sent.message as Buffer).toString('base64'))
  }
  const read = JSON.parse(execFileSync(requirePeer('python3'), ['-c', HEADERS], { input: JSON.stringify(raw), encoding: 'utf8' })) as [
    string,
    string[],
  ][]
  const plain = read[0]?.[1].toSorted()
  expect(plain).toContain('Subject')
  expect(plain).not.toContain('Bcc')
  for (const [index, [subject, headers]] of read.entries()) {
    expect(headers.toSorted()).toEqual(plain)
    // A header folds where blanks are; how many they were is lost.
    expect(subject.replaceAll(/\s+/gu, ' ').trim()).toBe(notices[index]?.headline.replaceAll(/\s+/gu, ' ').trim())
  }
})

const HEADERS = `
import base64, email, json, sys
from email import policy
out = []
for raw in json.load(sys.stdin):
    m = email.message_from_bytes(base64.b64decode(raw), policy=policy.default)
    assert not m.defects, m.defects
    out.append((str(m['subject']), m.keys()))
json.dump(out, sys.stdout)
`

/** A mail server that says what a test wants; `answer` gets each line. */
async function scripted(answer: (line: string) => string | Promise<string>): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets = new Set<Socket>()
  const reply = async (socket: Socket, line: string): Promise<void> => {
    let said: string
    do {
      said = await answer(line)
      if (socket.destroyed) return
      socket.write(`${said}\r\n`)
    } while (said.endsWith('more'))
  }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.write('220 test\r\n')
    socket.on('data', (data: Buffer) => void reply(socket, data.toString('utf8')))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
