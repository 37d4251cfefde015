import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import type { LabSession } from '../flow/lab-session.ts'
import { COMMAND } from '../flow/mount-world.ts'
import { quoted } from './emulated-caller.ts'
import { INTEGRATIONS } from './module.ts'
import type { ProductWorld } from './product-world.ts'

const exec = promisify(execFile)
/** Where the pages say that `integrations/` is installed. */
const INSTALLED = '/usr/local/lib/vcb/integrations'

/**
 * What Amanda has compiled in and what its page tells an administrator to change (`/etc`, the application directory, the place of the scripts)
 * belongs to a mount namespace of its own: nothing of the machine is touched, and the set-up is the page's, sudoers line and all.
 * Says `ready` and then lives until its input ends.
 */
const SETUP = `
own=$1 integrations=$2
mount -t tmpfs -o mode=755 none "$own/etc"
cp -a /etc/. "$own/etc"
mount --bind "$own/etc" /etc
mount -t tmpfs -o mode=755 none "$own/application"
cp -a /usr/lib/amanda/application/. "$own/application"
mount --bind "$own/application" /usr/lib/amanda/application
mount -t tmpfs -o mode=755 none /usr/local/lib
mount -t tmpfs -o mode=1777 none /dev/shm
mkdir -p ${INSTALLED}
mount --bind "$integrations" ${INSTALLED}
for each in var/lib/amanda var/log/amanda tmp/amanda; do
  mkdir -p "$own/$each" && chown backup:backup "$own/$each" && mount --bind "$own/$each" "/$each"
done
printf '#!/bin/sh\\nwhile dd bs=512 count=1 2>/dev/null; do sleep 0.2; done\\n' >/usr/local/lib/vcb/slow-gzip
chmod 755 /usr/local/lib/vcb/slow-gzip
ln -s ${INSTALLED}/amanda/vcb-script /usr/lib/amanda/application/vcb-script
install -m 440 ${INSTALLED}/amanda/config/sudoers /etc/sudoers.d/vcb
mkdir -p /etc/vcb
ln -s "$own/scripts.conf" /etc/vcb/scripts.conf
cp -r "$own/configurations/." /etc/amanda
for each in /etc/amanda/*/; do
  name=$(basename "$each")
  for part in info index log hold vtapes/data vtapes/slot1 vtapes/slot2 vtapes/slot3; do mkdir -p "/var/lib/amanda/$name/$part"; done
done
mkdir /var/lib/amanda/gnutar-lists
touch /var/lib/amanda/amandates
chown -R backup: /var/lib/amanda /etc/amanda
echo ready
exec cat`

/** The server's side and, with the page's sample, the client's: one machine, virtual tapes, no daemon. */
const server = (name: string): string => `
org "vcb"
mailto ""
dumpuser "backup"
infofile "/var/lib/amanda/${name}/info"
logdir "/var/lib/amanda/${name}/log"
indexdir "/var/lib/amanda/${name}/index"
tpchanger "chg-disk:/var/lib/amanda/${name}/vtapes"
tapetype T
labelstr "VM-[0-9]*"
autolabel "VM-%%" empty
dumpcycle 1 day
runspercycle 1
tapecycle 4
inparallel 2
maxdumps 2
dtimeout 60
taperflush 0
flush-threshold-dumped 0
define tapetype T {
  length 500 mbytes
  filemark 4 kbytes
}
define holdingdisk hd {
  directory "/var/lib/amanda/${name}/hold"
  use 300 mbytes
}
`

/** A job that is in the middle of its data for minutes: what compresses is slow, and ends as gzip does when nobody takes what it writes. */
const SLOW = `
define dumptype vm-slow {
  vm
  compress client custom
  client-custom-compress "/usr/local/lib/vcb/slow-gzip"
}
`

/** All that runs for one amdump, with what compresses slowly. */
export const AMANDA = 'amdump planner driver dumper chunker taper amandad sendbackup amgtar tar slow-gzip dd sleep'.split(' ')

export type Configuration = 'good' | 'slow'
export type Ended = { readonly status: number | string; readonly said: string }

export type AmandaWorld = AsyncDisposable & {
  /** amdump of these VMs. */
  dump(name: Configuration, ...vms: readonly (keyof typeof ENTRIES)[]): Promise<Ended>
  /** amcleanup, which also has to follow a killed amdump. */
  cleanup(name: Configuration, ...options: readonly string[]): Promise<Ended>
  /** The newest dump of a VM in `good`, restored to the directory that is returned. */
  restore(vm: keyof typeof ENTRIES): Promise<string>
  /** Ids of the processes in this world that have one of these names. */
  processes(...names: readonly string[]): Promise<readonly number[]>
  /** SIGKILL to each of them. */
  kill(...names: readonly string[]): Promise<void>
  /** What is mounted where the scripts show VMs. */
  mounts(): Promise<readonly string[]>
  /** What Amanda wrote about the runs of a configuration: lines FAIL, STRANGE, DONE and the like. */
  log(name: Configuration): Promise<string>
}

/** A disklist names a VM and what of it is read; `nowhere` is no VM of the lab. */
const ENTRIES = { linux: 'linux/digits', windows: 'windows/digits', nowhere: 'nowhere/digits' }

/** Two configurations of Amanda: `good`, and `slow`, whose dump of `linux` takes minutes. */
export async function amandaWorld(session: LabSession, world: ProductWorld): Promise<AmandaWorld> {
  await using stack = new AsyncDisposableStack()
  // Apart from the session's: its leak check would take Amanda's own unfinished files for ours.
  const own = await mkdtemp(join(tmpdir(), 'vcb-amanda-'))
  stack.defer(() => rm(own, { recursive: true, force: true }))
  await chmod(own, 0o711)
  for (const each of ['etc', 'application']) await mkdir(join(own, each), { recursive: true })
  // Amanda's own user comes through, to what is root's alone it does not.
  await chmod(session.directory, 0o711)
  // Compiled in, and looked at before anything else; in the namespace another stands in its place.
  if ((await mkdir('/tmp/amanda', { recursive: true, mode: 0o700 })) !== undefined) {
    stack.defer(() => rmdir('/tmp/amanda'))
    await exec('chown', ['backup:backup', '/tmp/amanda'])
  }
  const sample = await readFile(join(INTEGRATIONS, 'amanda', 'config', 'amanda.conf'), 'utf8')
  const entries = Object.entries(ENTRIES)
  const configure = async (name: string, type: string): Promise<void> => {
    const directory = join(own, 'configurations', name)
    await mkdir(directory, { recursive: true })
    await writeFile(join(directory, 'amanda.conf'), server(name) + sample + SLOW)
    await writeFile(
      join(directory, 'disklist'),
      entries.map(([vm, path]) => `localhost ${vm} ${join(world.root, path)} ${type}\n`).join(''),
    )
  }
  await configure('good', 'vm')
  await configure('slow', 'vm-slow')
  // sudo and Amanda clean the environment, so that of the session comes with the command.
  const command = join(own, 'vcb')
  const exported = Object.entries(session.environment).map(([name, value]) => `export ${name}=${quoted(value)}\n`)
  await writeFile(command, `#!/bin/sh\n${exported.join('')}exec ${quoted(process.execPath)} ${quoted(COMMAND)} "$@"\n`, { mode: 0o755 })
  await writeFile(
    join(own, 'scripts.conf'),
    `VCB_COMMAND=${command}\nVCB_MOUNT_ROOT=${world.root}\nVCB_SCRIPTS_STATE=${join(session.directory, 'scripts')}\n`,
  )

  const keeper = spawn('unshare', ['--mount', 'bash', '-euc', SETUP, 'bash', own, INTEGRATIONS], { stdio: ['pipe', 'pipe', 'inherit'] })
  const gone = once(keeper, 'exit')
  stack.defer(async () => {
    keeper.stdin.end()
    await gone
  })
  const [first] = await Promise.race([once(keeper.stdout, 'data'), gone])
  if (String(first) !== 'ready\n') throw new Error(`Amanda's mount namespace ended with ${String(first)}`)
  const inside = [
    '--target',
    String(keeper.pid),
    '--mount',
    '--wdns=/var/lib/amanda',
    'setpriv',
    '--reuid=backup',
    '--regid=backup',
    '--init-groups',
  ]
  const namespace = await readlink(`/proc/${keeper.pid}/ns/mnt`)
  const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/var/lib/amanda', LC_ALL: 'C.UTF-8' }

  const processes = async (...names: readonly string[]): Promise<readonly number[]> => {
    const found: number[] = []
    for (const pid of (await readdir('/proc')).filter((each) => /^\d+$/.test(each))) {
      const ours = (await readlink(`/proc/${pid}/ns/mnt`).catch(() => '')) === namespace
      if (ours && names.includes((await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')).trim())) found.push(Number(pid))
    }
    return found
  }
  const run = async (program: string, ...argv: readonly string[]): Promise<Ended> => {
    try {
      const { stdout, stderr } = await exec('nsenter', [...inside, program, ...argv], { env: environment, timeout: 60_000 })
      return { status: 0, said: stdout + stderr }
    } catch (thrown) {
      const { code, signal, stdout, stderr } = thrown as { code?: number; signal?: string; stdout?: string; stderr?: string }
      return { status: code ?? signal ?? 'not run', said: `${stdout ?? ''}${stderr ?? ''}` }
    }
  }
  const kill = async (...names: readonly string[]): Promise<void> => {
    for (const pid of await processes(...names))
      await exec('kill', ['-KILL', String(pid)]).catch(() => expect(existsSync(`/proc/${pid}`)).toBe(false))
  }
  stack.defer(() => kill(...AMANDA))
  const resources = stack.move()
  return {
    dump: (name, ...vms) => run('amdump', name, ...vms.flatMap((vm) => ['localhost', `^${vm}$`])),
    cleanup: (name, ...options) => run('amcleanup', ...options, name),
    restore: async (vm) => {
      const pipeline = 'mkdir -p "restored/$1"; amfetchdump -a -p good localhost "^$1$" </dev/null | tar -xC "restored/$1"'
      const { status, said } = await run('bash', '--norc', '-euo', 'pipefail', '-c', pipeline, 'bash', vm)
      if (status !== 0) throw new Error(`amfetchdump ended with ${status}: ${said}`)
      return join(own, 'var/lib/amanda/restored', vm)
    },
    processes,
    kill,
    mounts: async () =>
      (await readFile(`/proc/${keeper.pid}/mountinfo`, 'utf8')).split('\n').filter((line) => line.includes(`${world.root}/`)),
    log: async (name) => {
      const directory = join(own, 'var/lib/amanda', name, 'log')
      const files = (await readdir(directory)).filter((each) => each.startsWith('log.')).sort()
      return (await Promise.all(files.map((each) => readFile(join(directory, each), 'utf8')))).join('')
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}
