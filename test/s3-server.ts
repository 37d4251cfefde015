import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock } from '../src/core/index.ts'
import { freePort } from './free-port.ts'

const run = promisify(execFile)

export type S3User = { readonly name: string; readonly accessKeyId: string; readonly secretAccessKey: string }

/**
 * A private Ceph with an object gateway (RGW), on loopback, all of it in memory: one monitor, one manager, one OSD with memstore, one gateway. Ready
 * about a second after its call; gone, with all it held, when it is disposed. It has buckets with versions, Object Lock, multipart uploads, policies
 * and both styles of address.
 */
export type S3Server = AsyncDisposable & {
  readonly directory: string
  readonly port: number
  readonly tlsPort: number
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string
  /** `https://127.0.0.1:PORT`; its certificate is in `certificate`, a PEM file. */
  readonly tlsEndpoint: string
  readonly certificate: string
  /** Buckets may be addressed as `BUCKET.DOMAIN`. */
  readonly domain: string
  /** May make buckets. */
  readonly owner: S3User
  /** Another user, who may do nothing with them. */
  readonly stranger: S3User
}

/** Without these Ceph waits whole seconds between each step of a cluster that begins; the rest keeps it small. */
const SETTINGS = `
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
public addr = 127.0.0.1
cluster addr = 127.0.0.1
admin socket =
pid file =
paxos propose interval = 0.02
paxos min wait = 0.01
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = 2147483648
osd class load list = *
osd class default list = *
rgw rados pool pg num min = 4
rgw num rados handles = 1
rgw realm reload = false
rgw run sync thread = false
rgw dynamic resharding = false
rgw enable quota threads = false
rgw enable usage log = false
rgw enable ops log = false
`

const DOMAIN = 's3.test'

/** The programs it needs, as `test/peer.ts` names them. */
export const S3_SERVER_PEERS = [
  'radosgw',
  'ceph-mon',
  'ceph-mgr',
  'ceph-osd',
  'ceph',
  'radosgw-admin',
  'ceph-authtool',
  'monmaptool',
  'openssl',
] as const

export async function startS3Server(programs: Readonly<Record<(typeof S3_SERVER_PEERS)[number], string>>): Promise<S3Server> {
  await using stack = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'vcb-s3-'))
  stack.defer(() => rm(directory, { recursive: true, force: true }))
  const at = (name: string): string => join(directory, name)
  const [v2 = 0, v1 = 0, port = 0, tlsPort = 0] = await ports(4)
  const monitor = `[v2:127.0.0.1:${v2},v1:127.0.0.1:${v1}]`
  const [fsid, osd] = [randomUUID(), randomUUID()]
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost']
  const names = ['-addext', `subjectAltName=DNS:localhost,DNS:${DOMAIN},DNS:*.${DOMAIN},IP:127.0.0.1`]
  await run(programs.openssl, ['req', '-x509', ...kind, ...names, '-keyout', at('tls.key'), '-out', at('tls.crt')])
  for (const name of ['mon', 'mgr', 'osd', 'rgw', 'run', 'crash']) await mkdir(at(name))
  await writeFile(
    at('ceph.conf'),
    `[global]\nfsid = ${fsid}\nmon host = ${monitor}\nmon initial members = a\nkeyring = ${at('keyring')}\nrun dir = ${at('run')}\ncrash dir = ${at('crash')}
log file = ${at('$name.log')}\nmon cluster log file = ${at('cluster.log')}\nmon data = ${at('mon')}\nmgr data = ${at('mgr')}\nosd data = ${at('osd')}
rgw data = ${at('rgw')}\nrgw dns name = ${DOMAIN}
rgw frontends = beast endpoint=127.0.0.1:${port} ssl_endpoint=127.0.0.1:${tlsPort} ssl_certificate=${at('tls.crt')} ssl_private_key=${at('tls.key')}
${SETTINGS}`,
  )
  const configuration = ['-c', at('ceph.conf')]
  const key = (name: string, caps: Readonly<Record<string, string>>, ...more: readonly string[]): Promise<unknown> =>
    run(programs['ceph-authtool'], [
      at('keyring'),
      ...more,
      '--gen-key',
      '-n',
      name,
      ...Object.entries(caps).flatMap((each) => ['--cap', ...each]),
    ])
  await key('mon.', { mon: 'allow *' }, '--create-keyring')
  await key('client.admin', { mon: 'allow *', mgr: 'allow *', osd: 'allow *' })
  await key('mgr.x', { mon: 'allow profile mgr', osd: 'allow *' })
  await key('osd.0', { mon: 'allow profile osd', mgr: 'allow profile osd', osd: 'allow *' })
  await key('client.rgw', { mon: 'allow rw', osd: 'allow rwx' })
  await run(programs.monmaptool, [...configuration, '--create', '--addv', 'a', monitor, '--fsid', fsid, at('monmap')])
  await run(programs['ceph-mon'], [...configuration, '--mkfs', '-i', 'a', '--monmap', at('monmap'), '--keyring', at('keyring')])
  const daemon = (name: keyof typeof programs, ...more: readonly string[]): void => {
    const child = spawn(programs[name], [...configuration, '-f', ...more], { stdio: 'ignore' })
    stack.defer(() => end(child))
  }
  daemon('ceph-mon', '-i', 'a')
  daemon('ceph-mgr', '-i', 'x')
  await run(programs.ceph, [...configuration, '--connect-timeout', '30', 'osd', 'new', osd, '0'])
  await run(programs['ceph-osd'], [...configuration, '-i', '0', '--mkfs', '--osd-uuid', osd])
  daemon('ceph-osd', '-i', '0')
  daemon('radosgw', '-n', 'client.rgw', '--rgw-zone=default')
  const endpoint = `http://127.0.0.1:${port}`
  await answers(endpoint, at('client.rgw.log'))
  const user = async (name: string): Promise<S3User> => {
    const made = {
      name,
      accessKeyId: `AK${randomBytes(9).toString('hex').toUpperCase()}`,
      secretAccessKey: randomBytes(20).toString('base64'),
    }
    const keys = [`--access-key=${made.accessKeyId}`, `--secret-key=${made.secretAccessKey}`]
    await run(programs['radosgw-admin'], [
      ...configuration,
      '-n',
      'client.rgw',
      'user',
      'create',
      `--uid=${name}`,
      `--display-name=${name}`,
      ...keys,
    ])
    return made
  }
  const [owner, stranger] = [await user('owner'), await user('stranger')]
  const kept = stack.move()
  return {
    directory,
    port,
    tlsPort,
    endpoint,
    tlsEndpoint: `https://127.0.0.1:${tlsPort}`,
    certificate: at('tls.crt'),
    domain: DOMAIN,
    owner,
    stranger,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** Different ones: each is free only until somebody takes it. */
async function ports(count: number): Promise<readonly number[]> {
  const found = new Set<number>()
  while (found.size < count) found.add(await freePort())
  return [...found]
}

async function answers(endpoint: string, log: string): Promise<void> {
  const begun = systemClock.monotonicMs()
  for (;;) {
    try {
      await fetch(endpoint)
      return
    } catch (error) {
      if (systemClock.monotonicMs() - begun > 60_000) {
        const said = await readFile(log, 'utf8').catch(() => 'nothing')
        throw new Error(`The S3 server did not start; its log ends with: ${said.slice(-2000)}`, { cause: error })
      }
      await systemClock.sleep(50)
    }
  }
}

/** What it held was in memory: nothing has to be brought to an end. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
