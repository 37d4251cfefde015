import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from '../flow/mount-world.ts'
import { freePort } from '../free-port.ts'
import { requirePeer } from '../peer.ts'
import { INTEGRATIONS } from './module.ts'
import type { ProductWorld } from './product-world.ts'

const DAEMONS = ['bacula-dir', 'bacula-sd', 'bacula-fd'] as const
type Daemon = (typeof DAEMONS)[number]
/** The programs it needs. */
export const BACULA = [...DAEMONS, 'bconsole', 'sqlite3'] as const

/** What Bacula's catalog says of a job that has ended. */
export type BaculaJob = { readonly status: string; readonly errors: number; readonly files: number; readonly bytes: number }

/** Director, storage daemon and file daemon of this proxy, with a catalog, volumes and ports of their own and a Job for each VM. */
export type BaculaWorld = AsyncDisposable & {
  /** What bconsole answers to these commands; it ends when all of them are done. */
  console(...commands: readonly string[]): Promise<string>
  /** Starts a job; its JobId. */
  start(command: string): Promise<string>
  /** The job when it has ended. */
  ended(jobId: string): Promise<BaculaJob>
  /** What the job has said so far. */
  messages(jobId: string): Promise<string>
  kill(daemon: Daemon): Promise<void>
  restart(daemon: Daemon): Promise<void>
}

/** `vms`: the Jobs, from the sample configuration of integrations/bacula with the paths of this proxy. `images`: Jobs that are named as VCB's were. */
export async function baculaWorld(
  world: ProductWorld,
  jobs: { readonly vms: readonly string[]; readonly images: readonly string[] },
): Promise<BaculaWorld> {
  await using stack = new AsyncDisposableStack()
  // Not below the proxy's directory, in which nothing of ours may run after a job.
  const at = await mkdtemp(join(tmpdir(), 'vcb-bacula-'))
  stack.defer(() => rm(at, { recursive: true, force: true }))
  const programs = Object.fromEntries(DAEMONS.map((name) => [name, requirePeer(name)])) as Record<Daemon, string>
  const bconsole = requirePeer('bconsole')
  for (const name of ['dir', 'sd', 'fd', 'volumes']) await mkdir(join(at, name), { recursive: true })
  await makeCatalog(join(at, 'dir'))
  const ports = { dir: await freePort(), sd: await freePort(), fd: await freePort() }
  const sample = await readFile(join(INTEGRATIONS, 'bacula', 'config', 'bacula-dir.conf'), 'utf8')
  const files = {
    'bacula-dir': directorOf(at, ports, jobsOf(sample, world.root, jobs)),
    'bacula-sd': storageOf(at, ports.sd),
    'bacula-fd': clientOf(at, ports.fd),
    bconsole: `Director { Name = proxy-dir; DirPort = ${ports.dir}; Address = 127.0.0.1; Password = "test" }\n`,
  }
  for (const [name, text] of Object.entries(files)) await writeFile(join(at, `${name}.conf`), text, { mode: 0o600 })

  const running = new Map<Daemon, ChildProcess>()
  const kill = async (daemon: Daemon): Promise<void> => {
    const child = running.get(daemon)
    running.delete(daemon)
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  const restart = async (daemon: Daemon): Promise<void> => {
    await kill(daemon)
    const output = await open(join(at, `${daemon}.out`), 'a')
    // As a service: next to nothing in the environment.
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...world.serviceEnvironment }
    const argv = ['-f', '-P', '-c', join(at, `${daemon}.conf`)]
    running.set(daemon, spawn(programs[daemon], argv, { env, cwd: '/', stdio: ['ignore', output.fd, output.fd] }))
    await output.close()
  }
  stack.defer(async () => {
    for (const daemon of DAEMONS) await kill(daemon)
  })
  for (const daemon of [...DAEMONS].reverse()) await restart(daemon)

  const console = (...commands: readonly string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      const argv = ['-n', '-c', join(at, 'bconsole.conf')]
      const child = execFile(bconsole, argv, { timeout: 60_000 }, (error, out) => {
        if (error === null) resolve(out)
        else reject(new Error(`bconsole: ${error.message}\n${out}`))
      })
      child.stdin?.end(`${commands.join('\n')}\n`)
    })
  await until('the director answers', () =>
    console('version').then(
      (text) => text.includes('9.6'),
      () => false,
    ),
  )
  const kept = stack.move()
  return {
    console,
    start: async (command) => {
      const said = await console(command)
      const [, jobId] = /JobId=(\d+)/.exec(said) ?? []
      if (jobId === undefined) throw new Error(`no job was started: ${said}`)
      return jobId
    },
    ended: async (jobId) => {
      const said = await console(`wait jobid=${jobId}`, `llist jobid=${jobId}`)
      const field = (name: string): string => new RegExp(`^ *${name}: *(.*)$`, 'im').exec(said)?.[1]?.replaceAll(',', '').trim() ?? ''
      return {
        status: field('JobStatus'),
        errors: Number(field('JobErrors')),
        files: Number(field('JobFiles')),
        bytes: Number(field('JobBytes')),
      }
    },
    messages: (jobId) => console(`list joblog jobid=${jobId}`),
    kill,
    restart,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

/** The tables of Bacula's own script; run as it stands, it syncs each of them to the disk. */
async function makeCatalog(directory: string): Promise<void> {
  const script = await readFile('/usr/share/bacula-director/make_sqlite3_tables', 'utf8')
  const [, tables] = /<<END-OF-DATA\n([^]*)\nEND-OF-DATA/.exec(script) ?? []
  const sqlite = spawn(requirePeer('sqlite3'), ['-bail', join(directory, 'bacula.db')], { stdio: ['pipe', 'ignore', 'inherit'] })
  sqlite.stdin?.end(`PRAGMA synchronous = OFF;\n${tables ?? ''}\n`)
  const [status] = (await once(sqlite, 'exit')) as [number]
  if (status !== 0 || tables === undefined) throw new Error(`the catalog could not be made (${status})`)
}

/** The sample: its JobDefs as they are, its FileSet and Job once for each VM. */
function jobsOf(
  sample: string,
  root: string,
  { vms, images }: { readonly vms: readonly string[]; readonly images: readonly string[] },
): string {
  const here = sample.replaceAll('/usr/local/lib/vcb/integrations', INTEGRATIONS).replaceAll('/var/lib/vcb/mnt', root)
  const at = here.indexOf('FileSet {')
  const [defaults, each] = [here.slice(0, at), here.slice(at)]
  const named = defaults.replace('"Vm"', '"Image"').replaceAll('--vm', '--job')
  return [
    defaults,
    ...vms.map((vm) => each.replaceAll('web01', vm)),
    named,
    ...images.map((vm) =>
      each
        .replaceAll('web01', vm)
        .replaceAll(`${vm}-files`, `${vm}-disks`)
        .replace(`Name = ${vm};`, `Name = ${vm}-fullVM;`)
        .replace('JobDefs = Vm', 'JobDefs = Image'),
    ),
  ].join('\n')
}

const directorOf = (at: string, ports: Readonly<Record<'dir' | 'sd' | 'fd', number>>, jobs: string): string => `
Director {
  Name = proxy-dir; DirPort = ${ports.dir}; DirAddress = 127.0.0.1; Password = "test"; QueryFile = "/etc/bacula/scripts/query.sql"
  WorkingDirectory = "${at}/dir"; PidDirectory = "${at}/dir"; Maximum Concurrent Jobs = 5; Messages = Standard
}
Catalog { Name = Catalog; dbname = "bacula"; dbuser = ""; dbpassword = "" }
Messages { Name = Standard; append = "${at}/bacula.log" = all, !skipped; catalog = all, !skipped }
Storage { Name = Disk; Address = 127.0.0.1; SDPort = ${ports.sd}; Password = "test"; Device = Files; Media Type = File; Maximum Concurrent Jobs = 5 }
Pool { Name = Vms; Pool Type = Backup; Label Format = "vm-"; Recycle = no; AutoPrune = no }
Client { Name = proxy-fd; Address = 127.0.0.1; FDPort = ${ports.fd}; Catalog = Catalog; Password = "test"; Maximum Concurrent Jobs = 5; AutoPrune = no }
${jobs}
Job { Name = restore; Type = Restore; Client = proxy-fd; Storage = Disk; Pool = Vms; Messages = Standard; FileSet = linux-files; Where = ${at}/restored; Maximum Concurrent Jobs = 2 }
`

const storageOf = (at: string, port: number): string => `
Storage {
  Name = proxy-sd; SDPort = ${port}; SDAddress = 127.0.0.1
  WorkingDirectory = "${at}/sd"; PidDirectory = "${at}/sd"; Maximum Concurrent Jobs = 5
}
Director { Name = proxy-dir; Password = "test" }
Device {
  Name = Files; Media Type = File; Archive Device = ${at}/volumes; LabelMedia = yes; Random Access = yes
  AutomaticMount = yes; RemovableMedia = no; AlwaysOpen = no; Maximum Concurrent Jobs = 5
}
Messages { Name = Standard; director = proxy-dir = all }
`

const clientOf = (at: string, port: number): string => `
FileDaemon {
  Name = proxy-fd; FDPort = ${port}; FDAddress = 127.0.0.1
  WorkingDirectory = "${at}/fd"; PidDirectory = "${at}/fd"; Maximum Concurrent Jobs = 5
}
Director { Name = proxy-dir; Password = "test" }
Messages { Name = Standard; director = proxy-dir = all, !skipped, !restored }
`
