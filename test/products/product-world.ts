import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { LabSession } from '../flow/lab-session.ts'
import { COMMAND } from '../flow/mount-world.ts'
import { quoted } from './emulated-caller.ts'
import { INTEGRATIONS } from './module.ts'

const exec = promisify(execFile)
export const VCB_RUN = join(INTEGRATIONS, 'generic', 'vcb-run')

/** A proxy where real products call the scripts, which call the real command. */
export type ProductWorld = {
  /** Below it the scripts show each VM. */
  readonly root: string
  /** Settings of the scripts, restic and Borg with repositories of their own. */
  readonly environment: NodeJS.ProcessEnv
  /** What a daemon's unit would set for the scripts, and the command's own settings, which stand in a file elsewhere. */
  readonly serviceEnvironment: Readonly<Record<string, string>>
  /** What the program says on standard output. */
  run(program: string, ...argv: readonly string[]): Promise<string>
  /** Through `vcb-run`. */
  wrapped(options: readonly string[], ...command: readonly string[]): Promise<void>
  /** Arguments that name the sample configuration of the product for this VM, with the places of this world. `changes`: what else is put in its place. */
  borgmatic(vm: string, changes?: readonly Replacement[]): Promise<readonly string[]>
  rsnapshotOf(vm: string, changes?: readonly Replacement[]): Promise<readonly string[]>
  /** Both runs of rsnapshot; the directory with the copies. `options`: of pre-backup. */
  rsnapshot(program: string, vm: string, options?: string): Promise<string>
}

type Replacement = readonly [text: string, by: string]

/** `changed`: other settings of the command, for all that is run here. */
export async function productWorld(session: LabSession, changed: NodeJS.ProcessEnv = {}): Promise<ProductWorld> {
  const { directory } = session
  const root = join(directory, 'mnt')
  await mkdir(root)
  const command = join(directory, 'vcb')
  await writeFile(command, `#!/bin/sh\nexec ${quoted(process.execPath)} ${quoted(COMMAND)} "$@"\n`, { mode: 0o755 })
  const settings = join(directory, 'scripts.conf')
  await writeFile(settings, `VCB_COMMAND=${command}\nVCB_MOUNT_ROOT=${root}\nVCB_SCRIPTS_STATE=${join(directory, 'scripts')}\n`)
  const serviceEnvironment = { ...session.environment, VCB_SCRIPTS_CONF: settings }
  const environment = {
    ...process.env,
    ...serviceEnvironment,
    RESTIC_REPOSITORY: join(directory, 'restic'),
    RESTIC_PASSWORD: 'test',
    RESTIC_CACHE_DIR: join(directory, 'cache'),
    BORG_REPO: join(directory, 'borg'),
    BORG_BASE_DIR: directory,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
    ...changed,
  }
  const run = async (program: string, ...argv: readonly string[]): Promise<string> =>
    (await exec(program, [...argv], { env: environment, timeout: 120_000 })).stdout
  const configured = async (product: string, sample: string, vm: string, changes: readonly Replacement[] = []): Promise<string> => {
    const file = join(directory, `${product}-${vm}.conf`)
    const places: readonly Replacement[] = [
      ['/usr/local/lib/vcb/integrations', INTEGRATIONS],
      ['/var/lib/vcb/mnt', root],
      ['/backup', join(directory, `backup-${product}`)],
      ['/etc/vcb/borg.pw', join(directory, 'borg.pw')],
      ['/run/rsnapshot', join(directory, 'rsnapshot')],
      ['web01', vm],
      ...changes,
    ]
    const text = await readFile(join(INTEGRATIONS, product, 'config', sample), 'utf8')
    await writeFile(
      file,
      places.reduce((filled, [sampled, here]) => filled.replaceAll(sampled, here), text),
    )
    return file
  }
  const rsnapshotOf: ProductWorld['rsnapshotOf'] = async (vm, changes) => {
    await mkdir(join(root, vm), { recursive: true })
    return ['-c', await configured('rsnapshot', 'web01.conf', vm, changes)]
  }
  return {
    root,
    environment,
    serviceEnvironment,
    run,
    wrapped: async (options, ...argv) => void (await run(VCB_RUN, ...options, '--', ...argv)),
    borgmatic: async (vm, changes) => {
      await writeFile(join(directory, 'borg.pw'), 'test\n', { mode: 0o600 })
      await mkdir(join(directory, 'backup-borgmatic'), { recursive: true })
      // No test machine has a syslog, of whose absence it complains at length.
      return ['-c', await configured('borgmatic', 'web01-1.7.yaml', vm, changes), '--syslog-verbosity', '-1']
    },
    rsnapshotOf,
    rsnapshot: async (program, vm, options = '') => {
      const named = await rsnapshotOf(vm, [[`pre-backup --vm ${vm}`, `pre-backup --vm ${vm} ${options}`.trimEnd()]])
      await run(program, ...named, 'sync')
      await run(program, ...named, 'daily')
      return join(directory, 'backup-rsnapshot', 'rsnapshot', vm, 'daily.0')
    },
  }
}
