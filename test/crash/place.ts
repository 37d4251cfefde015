import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Lab, startLab } from '../../src/lab/index.ts'
import { crashScenario } from './scenario.ts'

const run = promisify(execFile)

/**
 * Where one worker lives its cuts, one after the other: everything of a cut is in `world`, always under the same path, because journal, catalog
 * and lab keep absolute paths. Templates and the worlds of a first kill are copies beside it.
 */
export type Place = {
  readonly root: string
  readonly world: string
  readonly lab: string
  readonly repository: string
  readonly state: string
  /** Targets of restores to directories. */
  readonly restored: string
  /** TMPDIR of the commands. */
  readonly temporary: string
  /** The entry of the built command (`installCommand`). */
  readonly command: string
}

export function placeIn(root: string, command: string): Place {
  const world = join(root, 'world')
  const inside = (name: string): string => join(world, name)
  return {
    root,
    world,
    lab: inside('lab'),
    repository: inside('repo'),
    state: inside('state'),
    restored: inside('restored'),
    temporary: inside('tmp'),
    command,
  }
}

export async function makeEmptyWorld(place: Place): Promise<void> {
  await rm(place.world, { recursive: true, force: true })
  await mkdir(place.restored, { recursive: true })
  await mkdir(place.temporary)
  await writeFile(join(place.world, 'repo-password'), 'correct horse battery staple\n', { mode: 0o600 })
}

/** Puts the world aside under a name, replacing what had it. The lab must not run. */
export async function saveWorld(place: Place, name: string): Promise<void> {
  await copyTree(place.world, join(place.root, name))
}

/** Makes the world what was saved under a name. */
export async function loadWorld(place: Place, name: string): Promise<void> {
  await copyTree(join(place.root, name), place.world)
}

/** With holes and times, which Node's own copy does not keep. */
async function copyTree(from: string, to: string): Promise<void> {
  await rm(to, { recursive: true, force: true })
  await run('cp', ['-a', '--sparse=auto', from, to])
}

const configFile = (place: Place): string => join(place.lab, 'vcb.yaml')

/** Starts the lab of a place, and says in the configuration file of its commands where the inside of the proxy VM is. */
export async function openLab(place: Place): Promise<Lab> {
  await using stack = new AsyncDisposableStack()
  const lab = stack.use(await startLab({ directory: place.lab, scenario: crashScenario }))
  const guest = (await lab.control.state()).vms.find((vm) => vm.name === 'proxy')?.guest
  await writeFile(configFile(place), JSON.stringify({ hotadd: { sysfs: guest?.sysfs, devices: guest?.devices, appear: '10s' } }))
  stack.move()
  return lab
}

/** Adds jobs to that file; where points go and how vCenter is reached stays with the environment. */
export async function configureJobs(place: Place, jobs: readonly object[]): Promise<void> {
  const known = JSON.parse(await readFile(configFile(place), 'utf8')) as object
  await writeFile(configFile(place), JSON.stringify({ ...known, jobs }))
}

/** The same for a flow that goes to the host itself: its API, and its shell by a configuration file. */
export async function hostEnvironmentOf(place: Place, lab: Lab, repository?: string): Promise<Record<string, string>> {
  const { esxi, ssh } = lab.endpoints
  const config = join(place.world, 'vcb.yaml')
  const hosts = ssh.map(({ host, address, port, hostKey }) => [host, { address, port, hostKey, keyFile: lab.sshKeyFile }])
  await writeFile(config, JSON.stringify({ ssh: { hosts: Object.fromEntries(hosts) } }))
  return { ...environmentOf(place, lab, repository), VCB_VCENTER: esxi.url, VCB_THUMBPRINT: esxi.thumbprint, VCB_CONFIG: config }
}

/** What a command of this world gets as its environment, beside PATH and HOME. */
export function environmentOf(place: Place, lab: Lab | undefined, repository = place.repository): Record<string, string> {
  return {
    VCB_REPO: repository,
    VCB_REPO_PASSWORD_FILE: join(place.world, 'repo-password'),
    VCB_STATE_DIR: place.state,
    VCB_LOG_LEVEL: 'debug',
    VCB_LOG_FILE: join(place.world, 'vcb.log'),
    TMPDIR: place.temporary,
    ...(lab === undefined
      ? {}
      : {
          VCB_CONFIG: configFile(place),
          VCB_VCENTER: lab.endpoints.vcenter.url,
          VCB_THUMBPRINT: lab.endpoints.vcenter.thumbprint,
          VCB_USER: lab.user,
          VCB_PASSWORD_FILE: lab.passwordFile,
          VCB_DATASTORES: Object.entries(lab.datastores)
            .map(([name, path]) => `${name}=${path}`)
            .join(','),
        }),
  }
}
