import { once } from 'node:events'
import { createServer } from 'node:http'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { requirePeer } from '../peer.ts'
import { startSmtpServer } from '../smtp-server.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/* `vcb notices`: by mail and to a web address. */
const PASSWORD = 'n0tice-p4ssword'
const TOKEN = 'T0KEN-of-the-chat'
let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
})
afterAll(() => session[Symbol.asyncDispose]())

async function configure(...lines: readonly string[]): Promise<void> {
  session.environment['VCB_CONFIG'] = join(session.directory, 'vcb.yaml')
  await writeFile(session.environment['VCB_CONFIG'], `${lines.join('\n')}\n`)
}
const secret = async (name: string, text: string): Promise<string> => {
  const file = join(session.directory, name)
  await writeFile(file, `${text}\n`, { mode: 0o600 })
  return file
}

it('sends a test by mail with a login, and lists what there is', async () => {
  await using server = await startSmtpServer(requirePeer('aiosmtpd'), requirePeer('openssl'), {
    security: 'starttls',
    login: { user: 'backup', password: PASSWORD },
  })
  await secret('mail.pw', PASSWORD)
  await configure(
    'notices:',
    '  office:',
    `    mail: { server: "smtp://127.0.0.1:${server.port}", from: b@example.com, to: a@example.com, user: backup, passwordFile: mail.pw }`,
    `    caFile: ${server.certificate}`,
    '  morning: { digest: "0 7 * * *", timeZone: UTC, syslog: { server: "udp://127.0.0.1:1" } }',
    'jobs: [{ name: nightly, select: web01, rpo: 24h, notices: office }]',
  )
  expect(await session.json(['notices', 'list'])).toEqual([
    {
      notice: 'office',
      to: 'mail to a@example.com',
      tells: ['failure', 'warning', 'missedRpo'],
      jobs: ['nightly'],
      waiting: 0,
      dropped: 0,
    },
    { notice: 'morning', to: 'syslog udp://127.0.0.1:1', tells: ['report at 0 7 * * *'], jobs: [], waiting: 0, dropped: 0 },
  ])
  expect(await session.json(['notices', 'test', 'office'])).toMatchObject({ notice: 'office', kind: 'mail', to: 'mail to a@example.com' })
  const [mail] = await server.mails()
  expect(mail).toMatchObject({
    envelope: { login: 'backup', tls: true },
    headers: { subject: expect.stringMatching(/test, nothing happened$/) },
  })
  expect(await session.json(['notices', 'test', 'offce'], 5)).toMatchObject({
    error: { message: 'There is no notice "offce".', next: 'Did you mean "office"?' },
  })
})

it('tells neither password nor address of a web hook, in no output and no log', async () => {
  const server = createServer((_, response) => response.writeHead(500).end(`no /${TOKEN}`))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const { port } = server.address() as { port: number }
    await secret('url', `http://me:${PASSWORD}@127.0.0.1:${port}/${TOKEN}`)
    await secret('key', PASSWORD)
    await configure('log: { level: debug }', 'notices: { chat: { webhook: { urlFile: url, secretFile: key } } }')
    session.environment['VCB_LOG_LEVEL'] = 'debug'
    const { exit, out, err } = await session.vcb('notices', 'test', 'chat')
    expect([exit, out, err]).toEqual([7, '', expect.stringContaining(`The webhook http://127.0.0.1:${port} answered 500.`)])
    const shown = [out, err, JSON.stringify(await session.json(['notices', 'list']))]
    shown.push((await session.vcb('config', 'explain')).out, (await session.vcb('config', 'check')).out)
    // Everything of the session: its log too, where a command wrote one.
    for (const name of await readdir(session.directory))
      if (name.startsWith('vcb.log')) shown.push(await readFile(join(session.directory, name), 'utf8'))
    for (const text of shown) expect(text).not.toMatch(new RegExp(`${PASSWORD}|${TOKEN}`))
    await configure(`notices: { chat: { webhook: { url: "http://127.0.0.1:${port}/${TOKEN}" } } }`)
    const refused = await session.vcb('config', 'check')
    expect([refused.exit, refused.out + refused.err]).toEqual([3, expect.stringMatching(/url/)])
    expect(refused.out + refused.err).not.toContain(TOKEN)
  } finally {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
})
