import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Secret, silentLog, systemClock } from '../src/core/index.ts'
import {
  openPgState,
  type OpenPgStateOptions,
  parsePgAddress,
  type PgAddress,
  type PgState,
  type ProxyProcess,
} from '../src/state/index.ts'
import { freePort } from './free-port.ts'

export type PostgresOptions = {
  /** Also listens on 127.0.0.1, where it wants TLS and a password. */
  readonly tcp?: boolean
  /** A commit is on disk, as in real life; off where that is no point of the test. */
  readonly durable?: boolean
}

/** Debian's PostgreSQL with a cluster of its own, for an unprivileged user, gone when disposed. Its databases belong to the role `vcb`. */
export type Postgres = AsyncDisposable & {
  readonly port: number
  /** The directory of the cluster. */
  readonly data: string
  readonly password: Secret
  /** The certificate of the authority that signed the server's, PEM; and its file. */
  readonly ca: string
  readonly caFile: string
  /** A new empty database; its name. */
  database(): Promise<string>
  /** The URL of a database over the Unix socket. */
  url(database: string): string
  address(database: string): PgAddress
  tcpUrl(database: string, host?: string): string
  /** Opens our state in a database, a new one by default. */
  state(options?: Partial<OpenPgStateOptions> & { readonly database?: string }): Promise<PgState>
  /** Runs statements as the superuser; what they print. */
  sql(text: string, database?: string): string
  /** Ends the server: in order, or as a power cut would. */
  stop(how?: 'fast' | 'immediate'): Promise<void>
  start(): Promise<void>
}

/** `postgres` is the path of the server's program; its siblings are beside it. */
export async function startPostgres(postgres: string, options: PostgresOptions = {}): Promise<Postgres> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-pg-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const user = process.getuid?.() === 0 ? 'postgres' : undefined
  if (user !== undefined) {
    const [uid, gid] = execFileSync('sh', ['-c', `id -u ${user}; id -g ${user}`], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number)
    chownSync(directory, uid ?? 0, gid ?? 0)
  }
  // The server ends when this process does, however that is.
  const unprivileged = ['--pdeathsig', 'QUIT', ...(user === undefined ? [] : ['--reuid', user, '--regid', user, '--clear-groups'])]
  const beside = (name: string): string => join(postgres, '..', name)
  const run = (program: string, ...args: readonly string[]): string =>
    execFileSync('setpriv', [...unprivileged, program, ...args], { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

  const data = join(directory, 'data')
  const password = new Secret('p w&/%d')
  run(beside('initdb'), '-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync', '--no-instructions')
  const port = await freePort()
  const caFile = join(directory, 'ca.pem')
  if (options.tcp === true) makeCertificates(run, directory)
  const settings = [
    `port = ${port}`,
    `unix_socket_directories = '${directory}'`,
    `listen_addresses = '${options.tcp === true ? '127.0.0.1' : ''}'`,
    `fsync = ${options.durable === true ? 'on' : 'off'}`,
    'shared_buffers = 16MB',
    'max_connections = 60',
    "timezone = 'Asia/Kolkata'",
    ...(options.tcp === true
      ? [
          'ssl = on',
          `ssl_cert_file = '${directory}/server.pem'`,
          `ssl_key_file = '${directory}/server.key'`,
          'ssl_min_protocol_version = TLSv1.2',
        ]
      : []),
  ]
  const write = async (path: string, lines: readonly string[]): Promise<void> => writeFile(path, `${lines.join('\n')}\n`)
  await write(join(data, 'postgresql.auto.conf'), settings)
  await write(join(data, 'pg_hba.conf'), [
    'local all all trust',
    ...(options.tcp === true ? ['hostssl all all 127.0.0.1/32 scram-sha-256'] : []),
  ])

  let server: ReturnType<typeof spawn> | undefined
  let said = ''
  const start = async (): Promise<void> => {
    const started = spawn('setpriv', [...unprivileged, postgres, '-D', data], { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] })
    server = started
    started.stderr.on('data', (piece: Buffer) => (said = (said + piece.toString()).slice(-4000)))
    for (let turn = 0; ; turn++) {
      if (turn > 600 || started.exitCode !== null) throw new Error(`postgres did not start: ${said}`)
      try {
        execFileSync(beside('pg_isready'), ['-q', '-h', directory, '-p', String(port)], { stdio: 'ignore' })
        return
      } catch {
        await systemClock.sleep(50)
      }
    }
  }
  const stop = async (how: 'fast' | 'immediate' = 'fast'): Promise<void> => {
    if (server === undefined || server.exitCode !== null) return
    const ended = once(server, 'exit')
    server.kill(how === 'fast' ? 'SIGINT' : 'SIGQUIT')
    await ended
  }
  stack.defer(() => stop('immediate'))
  await start()

  const sql = (text: string, database = 'postgres'): string =>
    execFileSync(
      beside('psql'),
      ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-h', directory, '-p', String(port), '-U', 'postgres', '-d', database, '-c', text],
      {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    ).trim()
  sql(`CREATE ROLE vcb LOGIN PASSWORD '${password.reveal()}'`)
  let count = 0
  const database = async (): Promise<string> => {
    const name = `vcb${++count}`
    sql(`CREATE DATABASE ${name} OWNER vcb`)
    return name
  }
  const url = (name: string): string => `postgres:///${name}?host=${directory}&port=${port}&user=vcb`
  const address = (name: string): PgAddress => parsePgAddress(url(name))
  const kept = stack.move()
  return {
    port,
    data,
    password,
    ca: options.tcp === true ? await readFile(caFile, 'utf8') : '',
    caFile,
    database,
    url,
    address,
    tcpUrl: (name, host = 'localhost') => `postgres://vcb@${host}:${port}/${name}`,
    state: async (more = {}) =>
      openPgState({ address: address(more.database ?? (await database())), clock: systemClock, log: silentLog, name: 'test', ...more }),
    sql,
    stop,
    start,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** A process as it registers. */
export const proxyOf = (self: Pick<ProxyProcess, 'pid' | 'bootId' | 'startTime'>): ProxyProcess => ({
  ...self,
  agent: `agent ${self.bootId}`,
  name: `proxy-${self.bootId}`,
  kind: 'agent',
  sites: undefined,
  transports: [],
  host: self.bootId,
})

/** An authority, and a certificate of it for `localhost` and 127.0.0.1. */
function makeCertificates(run: (program: string, ...args: readonly string[]) => string, directory: string): void {
  const at = (name: string): string => join(directory, name)
  const fresh = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  run('openssl', 'req', '-x509', ...fresh, '-subj', '/CN=test authority', '-keyout', at('ca.key'), '-out', at('ca.pem'))
  run(
    'openssl',
    'req',
    '-x509',
    ...fresh,
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-addext',
    'basicConstraints=critical,CA:FALSE',
    '-CA',
    at('ca.pem'),
    '-CAkey',
    at('ca.key'),
    '-keyout',
    at('server.key'),
    '-out',
    at('server.pem'),
  )
  run('chmod', '600', at('server.key'))
}
