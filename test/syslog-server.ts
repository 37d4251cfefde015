import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeCertificate } from './certificate.ts'
import { freePort } from './free-port.ts'

/** A message as rsyslog read it. */
export type ReceivedSyslog = {
  readonly pri: string
  readonly version: string
  readonly host: string
  readonly app: string
  readonly proc: string
  readonly msgid: string
  readonly time: string
  readonly sd: string
  readonly msg: string
  readonly input: string
}

/** rsyslogd for this user, with an input of every kind we speak; it writes what it read as JSON. */
export type SyslogServerProcess = AsyncDisposable & {
  readonly udp: number
  readonly tcp: number
  readonly tls: number
  readonly socket: string
  readonly ca: () => Promise<string>
  /** Waits until so many were read. */
  received(count: number): Promise<readonly ReceivedSyslog[]>
}

export async function startRsyslog(rsyslogd: string, openssl: string): Promise<SyslogServerProcess> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-syslog-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const { certificate, key } = makeCertificate(openssl, directory)
  const [udp, tcp, tls] = [await freePort(), await freePort(), await freePort()]
  const socket = join(directory, 'log.sock')
  const output = join(directory, 'read')
  const fields = [
    'hostname host',
    'app-name app',
    'procid proc',
    'msgid msgid',
    'structured-data sd',
    'msg msg',
    'pri pri',
    'protocol-version version',
    'inputname input',
  ]
  const config = [
    `global(workDirectory="${directory}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"`,
    `  defaultNetstreamDriverCAFile="${certificate}" defaultNetstreamDriverCertFile="${certificate}" defaultNetstreamDriverKeyFile="${key}")`,
    'module(load="imuxsock" SysSock.Use="off") module(load="imudp") module(load="imptcp")',
    'module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")',
    `input(type="imuxsock" Socket="${socket}" UseSpecialParser="off" ParseHostname="on")`,
    `input(type="imudp" address="127.0.0.1" port="${udp}") input(type="imptcp" address="127.0.0.1" port="${tcp}") input(type="imtcp" address="127.0.0.1" port="${tls}")`,
    'template(name="j" type="list" option.jsonf="on") {',
    ...fields.map((field) => {
      const [name = '', key_ = ''] = field.split(' ')
      return `property(outname="${key_}" name="${name}" format="jsonf")`
    }),
    'property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf") }',
    `action(type="omfile" file="${output}" template="j")`,
  ]
  await writeFile(join(directory, 'config'), `${config.join('\n')}\n`)
  const server = spawn(rsyslogd, ['-n', '-f', join(directory, 'config'), '-i', join(directory, 'pid')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  server.stderr.on('data', (piece: Buffer) => (said += piece.toString()))
  stack.defer(async () => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const exited = once(server, 'exit')
    server.kill('SIGKILL')
    await exited
  })
  for (let turn = 0; !(await exists(join(directory, 'pid'))) || !(await exists(socket)); turn++) {
    if (turn > 200 || server.exitCode !== null) throw new Error(`rsyslogd did not start: ${said}`)
    await sleep(50)
  }
  const moved = stack.move()
  return {
    udp,
    tcp,
    tls,
    socket,
    ca: () => readFile(certificate, 'utf8'),
    received: async (count) => {
      for (let turn = 0; ; turn++) {
        const lines = (await exists(output)) ? (await readFile(output, 'utf8')).split('\n').filter((line) => line !== '') : []
        if (lines.length >= count) return lines.map((line) => JSON.parse(line) as ReceivedSyslog)
        if (turn > 200) throw new Error(`rsyslogd read ${lines.length} messages instead of ${count}: ${said}`)
        await sleep(50)
      }
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  }
}

const exists = async (path: string): Promise<boolean> => {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
}
