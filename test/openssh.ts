import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { Secret, silentLog, systemClock } from '../src/core/index.ts'
import { createSshHosts, fingerprintOf, type SshHost, type SshHosts } from '../src/ssh/index.ts'
import { freePort } from './free-port.ts'

/** A private OpenSSH server on a loopback port, for the user who runs the tests, with keys made for it. */
export type OpenSshd = AsyncDisposable & {
  readonly directory: string
  readonly port: number
  readonly user: string
  readonly keyFile: string
  readonly fingerprint: string
  readonly knownHosts: string
  /** How our client reaches it; `change` for what a test wants otherwise. */
  host(change?: Partial<SshHost>): SshHost
  hosts(change?: Partial<SshHost>): SshHosts
}

export async function startSshd(sshd: string, more: readonly string[] = []): Promise<OpenSshd> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-sshd-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const keygen = (name: string, ...args: readonly string[]): void =>
    void execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, name), ...args])
  keygen('host')
  keygen('user')
  const hostKey = await readFile(join(directory, 'host.pub'), 'utf8')
  await writeFile(join(directory, 'authorized_keys'), await readFile(join(directory, 'user.pub'), 'utf8'))
  const port = await freePort()
  const config = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${join(directory, 'host')}`,
    `AuthorizedKeysFile ${join(directory, 'authorized_keys')}`,
    `PidFile ${join(directory, 'pid')}`,
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin yes',
    'PrintMotd no',
    ...more,
  ]
  await writeFile(join(directory, 'config'), `${config.join('\n')}\n`)
  // Debian's sshd wants its empty directory when root runs it; a service would have made it.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  const server = spawn(sshd, ['-D', '-e', '-f', join(directory, 'config')], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  server.stderr.on('data', (piece: Buffer) => (said += piece.toString()))
  stack.defer(async () => {
    if (server.exitCode !== null) return
    server.kill('SIGTERM')
    await once(server, 'exit')
  })
  for (let turn = 0; !said.includes('Server listening'); turn++) {
    if (turn > 200 || server.exitCode !== null) throw new Error(`sshd did not start: ${said}`)
    await systemClock.sleep(20)
  }
  const { username } = userInfo()
  const keyFile = join(directory, 'user')
  const key = new Secret(await readFile(keyFile, 'utf8'))
  const knownHosts = join(directory, 'known_hosts')
  await writeFile(knownHosts, `[127.0.0.1]:${port} ${hostKey}`)
  const fingerprint = fingerprintOf(Buffer.from(hostKey.split(' ')[1] ?? '', 'base64'))
  const host = (change: Partial<SshHost> = {}): SshHost => ({
    name: 'sshd',
    address: '127.0.0.1',
    port,
    user: username,
    login: async () => ({ key: { path: keyFile, text: key } }),
    pin: async () => ({ fingerprints: [fingerprint] }),
    ...change,
  })
  const kept = stack.move()
  return {
    directory,
    port,
    user: username,
    keyFile,
    fingerprint,
    knownHosts,
    host,
    hosts: (change) => createSshHosts([host(change)], { clock: systemClock, log: silentLog }),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}
