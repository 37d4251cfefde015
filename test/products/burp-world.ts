import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { until } from '../flow/mount-world.ts'
import { INTEGRATIONS } from './module.ts'
import type { ProductWorld } from './product-world.ts'

const exec = promisify(execFile)
const CLIENTS = ['linux', 'windows', 'nowhere', 'slow'] as const
type Client = (typeof CLIENTS)[number]

/**
 * A server of Burp's in a directory of its own, on free ports of the loopback, and clients made from the page's sample: one a VM, one for
 * `nowhere`, which is no VM of the lab, and `slow`, which backs up `linux` for minutes.
 */
export type BurpWorld = AsyncDisposable & {
  /** A backup to its end; its status and what the client said. */
  backup(client: Client): Promise<{ readonly status: number; readonly said: string }>
  /** A backup by the client `slow`. */
  slowly(): Promise<ChildProcess>
  /** The newest backup, restored to the directory that is returned. */
  restore(client: Client): Promise<string>
  /** Numbers of the backups of a client that are finished. */
  finished(client: Client): Promise<readonly string[]>
  /** Whether a client has a file of the guest open. */
  reads(client: ChildProcess): Promise<boolean>
  /** Ids of the server's processes that serve a client. */
  serving(): Promise<readonly number[]>
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })

export async function burpWorld(world: ProductWorld, program: string): Promise<BurpWorld> {
  await using stack = new AsyncDisposableStack()
  // Apart from the session's: its leak check would take Burp's own unfinished files for ours.
  const own = await mkdtemp(join(tmpdir(), 'vcb-burp-'))
  stack.defer(() => rm(own, { recursive: true, force: true }))
  await mkdir(join(own, 'clients'))
  await mkdir(join(own, 'spool'))
  const openssl = (...argv: readonly string[]) => exec('openssl', [...argv], { cwd: own })
  const key = (name: string): readonly string[] => [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-subj',
    `/CN=${name}`,
  ]
  await openssl('req', '-x509', ...key('ca'), '-days', '2', '-out', 'ca.pem')
  for (const name of ['burpserver', ...CLIENTS])
    await openssl('req', '-x509', ...key(name), '-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '2', '-out', `${name}.pem`)
  await openssl('genpkey', '-genparam', '-algorithm', 'DH', '-pkeyopt', 'group:ffdhe2048', '-out', 'dhfile.pem')
  const port = await freePort()
  const status = await freePort()
  const tls = (name: string): string => `ssl_cert_ca = ${own}/ca.pem\nssl_cert = ${own}/${name}.pem\nssl_key = ${own}/${name}.key\n`
  await writeFile(
    join(own, 'server.conf'),
    `mode = server
listen = 127.0.0.1:${port}
listen_status = 127.0.0.1:${status}
max_children = 5
directory = ${own}/spool
clientconfdir = ${own}/clients
pidfile = ${own}/server.pid
working_dir_recovery_method = delete
hardlinked_archive = 0
stdout = 1
syslog = 0
keep = 3
dedup_group = global
ssl_dhfile = ${own}/dhfile.pem
${tls('burpserver')}`,
  )
  const sample = await readFile(join(INTEGRATIONS, 'burp', 'config', 'web01.conf'), 'utf8')
  /** The client `slow` backs up `linux` too, with no earlier backup whose unchanged files it need not send, and for minutes. */
  const configured = async (client: string): Promise<string> => {
    const slow = client === 'slow'
    const places = [
      ['cname = web01', `cname = ${client}`],
      ['/usr/local/lib/vcb/integrations', INTEGRATIONS],
      ['/var/lib/vcb/mnt', world.root],
      ['/run/burp-', `${own}/client-`],
      ['backup.example.com:4971', `127.0.0.1:${port}`],
      ['status_port = 4972', `status_port = ${status}`],
      ['web01', slow ? 'linux' : client],
    ] as const
    const text = places.reduce((from, [what, to]) => from.replaceAll(what, to), sample)
    const file = join(own, `${client}.conf`)
    await writeFile(file, `${text}${tls(client)}ssl_peer_cn = burpserver\n${slow ? 'ratelimit = 0.02\n' : ''}`)
    return file
  }
  for (const client of CLIENTS) await writeFile(join(own, 'clients', client), 'password = changeme\n')
  const server = spawn(program, ['-c', join(own, 'server.conf'), '-F'], { stdio: 'ignore' })
  const gone = once(server, 'exit')
  stack.defer(async () => {
    server.kill('SIGTERM')
    await gone
  })
  await until('burp answers', async () => server.exitCode === null && (await answers(port)))
  const run = async (argv: readonly string[]): Promise<{ readonly status: number; readonly said: string }> => {
    try {
      const { stdout, stderr } = await exec(program, [...argv], { env: world.environment, timeout: 60_000 })
      return { status: 0, said: stdout + stderr }
    } catch (thrown) {
      const { code, stdout, stderr } = thrown as { code?: number; stdout?: string; stderr?: string }
      return { status: code ?? -1, said: `${stdout ?? ''}${stderr ?? ''}` }
    }
  }
  const resources = stack.move()
  return {
    backup: async (client) => run(['-c', await configured(client), '-a', 'b']),
    slowly: async () => {
      const client = spawn(program, ['-c', await configured('slow'), '-a', 'b'], { env: world.environment, stdio: 'ignore' })
      resources.defer(() => void client.kill('SIGKILL'))
      return client
    },
    restore: async (client) => {
      const directory = join(own, 'restored', client)
      await mkdir(directory, { recursive: true })
      const { status, said } = await run(['-c', await configured(client), '-a', 'r', '-d', directory])
      if (status !== 0) throw new Error(`burp -a r ended with ${status}: ${said}`)
      return directory
    },
    finished: async (client) =>
      [...(await run(['-c', await configured(client), '-a', 'l'])).said.matchAll(/^Backup: (\d+) (?!.*\(working\))/gm)].map(
        ([, number = '']) => number,
      ),
    reads: async (client) => {
      if (client.exitCode !== null) throw new Error(`the client ended with ${client.exitCode} before it was to be ended`)
      const directory = `/proc/${client.pid}/fd`
      const open = await Promise.all((await readdir(directory)).map((each) => readlink(join(directory, each)).catch(() => '')))
      return open.some((each) => each.startsWith(`${world.root}/`))
    },
    serving: async () =>
      (await readFile(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8'))
        .split(' ')
        .filter((each) => each !== '')
        .map(Number),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}
