import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { makeCertificate } from './certificate.ts'

/** A mail as Python's own parser reads it. */
export type ReceivedMail = {
  readonly envelope: { readonly from: string; readonly to: readonly string[]; readonly login: string | null; readonly tls: boolean }
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
  readonly html: string
  readonly parts: readonly string[]
}

/** aiosmtpd on a port of this machine, which keeps what it gets in a directory. */
export type SmtpServer = AsyncDisposable & {
  readonly port: number
  readonly certificate: string
  /** PEM of the certificate. */
  readonly ca: () => Promise<string>
  mails(): Promise<readonly ReceivedMail[]>
}

export type SmtpServerOptions = {
  readonly security: 'starttls' | 'tls' | 'none'
  /** Without a login nothing is taken, and logins are taken over TLS alone. */
  readonly login?: { readonly user: string; readonly password: string } | undefined
  /** Every mail is refused with this answer. */
  readonly refuse?: string | undefined
  readonly port?: number | undefined
}

export async function startSmtpServer(python: string, openssl: string, options: SmtpServerOptions): Promise<SmtpServer> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-smtp-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const { certificate, key } = makeCertificate(openssl, directory)
  await writeFile(join(directory, 'options.json'), JSON.stringify({ ...options, certificate, key, directory, port: options.port ?? 0 }))
  await writeFile(join(directory, 'server.py'), SERVER)
  const server = spawn(python, ['-W', 'ignore', join(directory, 'server.py'), join(directory, 'options.json')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let complaint = ''
  server.stderr.on('data', (piece: Buffer) => (complaint = `${complaint}${piece.toString()}`.slice(-4000)))
  stack.defer(async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.kill('SIGKILL')
    await exited
  })
  const [line] = (await Promise.race([once(createInterface(server.stdout), 'line'), once(server, 'exit')])) as [unknown]
  const port = Number(line)
  if (!(port > 0)) throw new Error(`aiosmtpd did not start: ${String(line)} ${complaint}`)
  const moved = stack.move()
  return {
    port,
    certificate,
    ca: () => readFile(certificate, 'utf8'),
    mails: async () => {
      const files = (await readdir(directory)).filter((name) => name.endsWith('.mail')).toSorted()
      return files.map(
        (name) => JSON.parse(execFileSync(python, ['-c', PARSER, join(directory, name)], { encoding: 'utf8' })) as ReceivedMail,
      )
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  }
}

const SERVER = `
import asyncio, json, os, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult
o = json.load(open(sys.argv[1]))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(o['certificate'], o['key'])
login = o.get('login')
def authenticate(server, session, envelope, mechanism, data):
    ok = login and data.login == login['user'].encode() and data.password == login['password'].encode()
    if ok: session.who = login['user']
    return AuthResult(success=bool(ok), handled=False)
class Handler:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        if o.get('refuse'): return o['refuse']
        name = os.path.join(o['directory'], '%06d' % Handler.count); Handler.count += 1
        facts = {'from': envelope.mail_from, 'to': envelope.rcpt_tos, 'login': getattr(session, 'who', None), 'tls': session.ssl is not None or o['security'] == 'tls'}
        open(name + '.part', 'wb').write(json.dumps(facts).encode() + b'\\n' + envelope.original_content)
        os.rename(name + '.part', name + '.mail')
        return '250 kept'
def factory():
    starttls = o['security'] == 'starttls'
    return SMTP(Handler(), hostname='test', tls_context=context if starttls else None, require_starttls=starttls, authenticator=authenticate if login else None,
        auth_required=bool(login), auth_require_tls=o['security'] != 'tls', enable_SMTPUTF8=True)
async def main():
    server = await asyncio.get_running_loop().create_server(factory, '127.0.0.1', o['port'], ssl=context if o['security'] == 'tls' else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
`

const PARSER = `
import email, json, sys
from email import policy
facts, raw = open(sys.argv[1], 'rb').read().split(b'\\n', 1)
m = email.message_from_bytes(raw, policy=policy.default)
assert not m.defects, m.defects
text, html = m.get_body(('plain',)), m.get_body(('html',))
json.dump({'envelope': json.loads(facts), 'headers': {k.lower(): str(v) for k, v in m.items()}, 'text': text.get_content().replace('\\r\\n', '\\n'),
    'html': html.get_content(), 'parts': [p.get_content_type() for p in m.walk()]}, sys.stdout)
`
