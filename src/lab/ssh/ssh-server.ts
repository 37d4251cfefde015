import { timingSafeEqual } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import ssh2, { type AuthContext, type Connection, type ServerChannel, type Session } from 'ssh2'
import type { FaultRule, Model, View } from '../model/index.ts'
import { listen } from '../wire/index.ts'
import type { Command } from './command.ts'
import { cat, dd, stat } from './file-commands.ts'
import type { LabKey } from './host-keys.ts'
import { pythonCommand } from './python-command.ts'
import { shellWords } from './shell-words.ts'
import { vimCmd } from './vim-cmd.ts'

/** Sessions that one connection may have open: OpenSSH's MaxSessions, which ESXi leaves as it is. */
const MAX_SESSIONS = 10
const COMMANDS: Readonly<Record<string, Command>> = { cat, dd, stat, python3: pythonCommand, 'vim-cmd': vimCmd }
const EFFECTS = ['ssh', 'delayMs', 'cut', 'cutAfterBytes', 'shortAfterBytes'] as const satisfies readonly (keyof FaultRule)[]

export type SshServer = AsyncDisposable & {
  readonly port: number
  readonly fingerprint: string
  /** Open connections, also those that are not logged in. */
  readonly connections: number
}

export type SshServerOptions = {
  readonly model: Model
  readonly host: { readonly id: string; readonly name: string }
  /** Where this is the host of the ESXi endpoint. */
  readonly view: View | undefined
  readonly port: number
  readonly hostKey: LabKey
  /** Shown where a rule wants another one. */
  readonly otherKey: LabKey
  /** Public key of root, in OpenSSH's form. */
  readonly userKey: LabKey
  readonly password: string
}

/** Serves the shell of one host on 127.0.0.1 to root. UNAVAILABLE when the port is taken. */
export async function serveSsh(options: SshServerOptions): Promise<SshServer> {
  const { model, host } = options
  const sockets = new Set<Socket>()
  const running = new Set<Promise<void>>()
  const strike = (on: string, ...names: readonly string[]): FaultRule[] =>
    model.rules.strike({ on, names: [host.name, ...names] }, ...EFFECTS).filter((rule) => rule.on !== undefined)
  const serving = (key: LabKey) =>
    new ssh2.Server({ hostKeys: [key.private], ident: 'OpenSSH_9.0' }, (client) => {
      client.on('error', (error) => model.log.debug('an SSH connection broke', { host: host.name, error: error.message }))
      client.on('authentication', (context) => {
        authenticate(options, context, strike).catch((error: unknown) => {
          model.log.debug('an SSH login broke', { error: String(error) })
          context.reject()
        })
      })
      client.on('ready', () => serveSessions(client))
    })
  const [right, other] = [serving(options.hostKey), serving(options.otherKey)]

  function serveSessions(client: Connection): void {
    let open = 0
    const gone = new AbortController()
    client.on('close', () => gone.abort())
    client.on('session', (accept, reject) => {
      const limits = strike('ssh:session').flatMap((rule) => (rule.ssh === 'sessions' ? [rule.value ?? 1] : []))
      if (open >= Math.min(MAX_SESSIONS, ...limits)) {
        reject()
        return
      }
      open++
      const session = accept()
      session.on('close', () => open--)
      serveSession(session, client, gone.signal)
    })
  }

  function serveSession(session: Session, client: Connection, gone: AbortSignal): void {
    session.on('exec', (accept, _reject, info) => {
      const channel = accept()
      const done = execute(channel, info.command, client, gone)
        .catch((error: unknown) =>
          model.log.error('a command of a host failed', { command: info.command.slice(0, 80), error: String(error) }),
        )
        .finally(() => {
          running.delete(done)
        })
      running.add(done)
    })
    session.on('shell', (_accept, reject) => reject())
    session.on('sftp', (_accept, reject) => reject())
  }

  async function execute(channel: ServerChannel, line: string, client: Connection, connectionGone: AbortSignal): Promise<void> {
    const over = new AbortController()
    const gone = AbortSignal.any([connectionGone, over.signal])
    channel.on('close', () => over.abort())
    channel.on('error', () => over.abort())
    const end = (status: number): void => {
      if (gone.aborted) return
      channel.exit(status)
      channel.end()
      channel.close()
    }
    const words = shellWords(line)
    const [name = ''] = words ?? []
    const command = COMMANDS[name]
    const rules = strike('ssh:exec', name, ...(words ?? []).slice(1, 3))
    for (const { delayMs } of rules) if (delayMs !== undefined) await model.clock.sleep(delayMs)
    if (rules.some((rule) => rule.cut === 'before')) return destroy(client)
    if (words === undefined || command === undefined || rules.some((rule) => rule.ssh === 'missing')) {
      channel.stderr.write(words === undefined ? 'sh: only simple commands are simulated\n' : `sh: ${name}: not found\n`)
      end(127)
      return
    }
    const wrong = rules.find((rule) => rule.ssh === 'status')
    if (wrong !== undefined && wrong.shortAfterBytes === undefined) {
      channel.stderr.write(`${name}: ${wrong.message ?? 'input/output error'}\n`)
      end(wrong.value ?? 1)
      return
    }
    const hard = rules.find((rule) => rule.cutAfterBytes !== undefined)?.cutAfterBytes ?? Number.POSITIVE_INFINITY
    const short = rules.find((rule) => rule.shortAfterBytes !== undefined)?.shortAfterBytes ?? Number.POSITIVE_INFINITY
    const cutInput = rules.find((rule) => rule.ssh === 'cutInput')
    if (cutInput !== undefined) {
      let got = 0
      channel.stdin.on('data', (piece: Buffer) => {
        got += piece.length
        if (got > (cutInput.value ?? 0)) destroy(client)
      })
    }
    let sent = 0
    const status = await command({
      model,
      view: options.view,
      host: host.id,
      words,
      rules,
      channel,
      gone,
      error: (text) => void channel.stderr.write(text),
      out: async (bytes) => {
        if (gone.aborted) return false
        const most = Math.min(hard, short) - sent
        const piece = bytes.length > most ? bytes.subarray(0, Math.max(0, most)) : bytes
        sent += piece.length
        if (piece.length > 0 && !channel.write(piece)) await drained(channel, gone)
        if (piece.length === bytes.length) return true
        if (hard <= short) destroy(client)
        return false
      },
    })
    if (rules.some((rule) => rule.cut === 'after')) return destroy(client)
    end(wrong?.value ?? status)
  }

  function destroy(client: Connection): void {
    for (const socket of sockets) if (Reflect.get(client, '_sock') === socket) socket.destroy()
  }

  const server = createServer({ noDelay: true, keepAlive: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', (error) => model.log.debug('an SSH connection broke', { error: error.message }))
    socket.once('close', () => sockets.delete(socket))
    const rules = strike('ssh:connect')
    if (rules.some((rule) => rule.cut !== undefined)) socket.destroy()
    else (rules.some((rule) => rule.ssh === 'otherHostKey') ? other : right).injectSocket(socket)
  })
  const port = await listen(server, { host: '127.0.0.1', port: options.port }, 'SSH')
  return {
    port,
    fingerprint: options.hostKey.fingerprint,
    get connections() {
      return sockets.size
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
      await Promise.all(running)
    },
  }
}

const drained = (channel: ServerChannel, gone: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      channel.off('drain', done)
      gone.removeEventListener('abort', done)
      resolve()
    }
    channel.once('drain', done)
    if (gone.aborted) done()
    else gone.addEventListener('abort', done, { once: true })
  })

/** root, by the lab's user key or by its password asked for interactively, as ESXi does; a plain password is not taken there. */
async function authenticate(
  options: SshServerOptions,
  context: AuthContext,
  strike: (on: string, ...names: readonly string[]) => FaultRule[],
): Promise<void> {
  const offered = ['publickey', 'keyboard-interactive'] as const
  const refuse = (): void => context.reject([...offered])
  if (context.method === 'none') return refuse()
  const rules = strike('ssh:login', context.method, context.username)
  for (const { delayMs } of rules) if (delayMs !== undefined) await options.model.clock.sleep(delayMs)
  if (context.username !== 'root' || rules.some((rule) => rule.ssh === 'refuse')) return refuse()
  if (context.method === 'keyboard-interactive') {
    const answers = await new Promise<readonly string[]>((resolve) => {
      context.prompt([{ prompt: 'Password: ', echo: false }], 'Login', (given) => resolve(given ?? []))
    })
    if (same(answers[0] ?? '', options.password)) context.accept()
    else refuse()
    return
  }
  if (context.method === 'publickey') {
    const known = ssh2.utils.parseKey(options.userKey.public)
    const key = known instanceof Error || Array.isArray(known) ? undefined : known
    const shown = key !== undefined && context.key.data.equals(key.getPublicSSH())
    const signed =
      context.signature === undefined ||
      (shown && key.verify(context.blob ?? Buffer.alloc(0), context.signature, context.hashAlgo) === true)
    if (shown && signed) context.accept()
    else refuse()
    return
  }
  refuse()
}

const same = (given: string, wanted: string): boolean => {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)]
  return a.length === b.length && timingSafeEqual(a, b)
}
