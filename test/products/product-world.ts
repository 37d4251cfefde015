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
  run(program: string, ...argv: readonly string[]): Promise<void>
  /** Through `vcb-run`. */
  wrapped(options: readonly string[], ...command: readonly string[]): Promise<void>
  /** One run of rsnapshot with its own pre- and post-scripts; the directory with the copies. */
  rsnapshot(program: string, vm: string, options?: string): Promise<string>
  /** The sample configuration of borgmatic for this VM, with the places of this world and a new repository; the arguments that name it. */
  borgmatic(program: string, vm: string): Promise<readonly string[]>
}

export async function productWorld({ directory, environment: own }: LabSession): Promise<ProductWorld> {
  const root = join(directory, 'mnt')
  await mkdir(root)
  const command = join(directory, 'vcb')
  await writeFile(command, `#!/bin/sh\nexec ${quoted(process.execPath)} ${quoted(COMMAND)} "$@"\n`, { mode: 0o755 })
  const settings = join(directory, 'scripts.conf')
  await writeFile(settings, `VCB_COMMAND=${command}\nVCB_MOUNT_ROOT=${root}\nVCB_SCRIPTS_STATE=${join(directory, 'scripts')}\n`)
  const serviceEnvironment = { ...own, VCB_SCRIPTS_CONF: settings }
  const environment = {
    ...process.env,
    ...serviceEnvironment,
    RESTIC_REPOSITORY: join(directory, 'restic'),
    RESTIC_PASSWORD: 'test',
    RESTIC_CACHE_DIR: join(directory, 'cache'),
    BORG_REPO: join(directory, 'borg'),
    BORG_BASE_DIR: directory,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  }
  const run = async (program: string, ...argv: readonly string[]): Promise<void> => {
    await exec(program, [...argv], { env: environment, timeout: 120_000 })
  }
  return {
    root,
    environment,
    serviceEnvironment,
    run,
    wrapped: (options, ...argv) => run(VCB_RUN, ...options, '--', ...argv),
    rsnapshot: async (program, vm, options = '') => {
      const copies = join(directory, `rsnapshot-${vm}`)
      const file = `${copies}.conf`
      const script = (which: string): string => `${join(INTEGRATIONS, 'rsnapshot', which)} --vm ${vm} ${options}`.trimEnd()
      const lines = [
        ['config_version', '1.2'],
        ['snapshot_root', `${copies}/`],
        ['cmd_cp', '/bin/cp'],
        ['cmd_rm', '/bin/rm'],
        ['cmd_rsync', '/usr/bin/rsync'],
        ['cmd_preexec', script('pre-backup')],
        ['cmd_postexec', script('post-backup')],
        ['retain', 'daily', '3'],
        ['lockfile', `${copies}.pid`],
        ['backup', `${join(root, vm)}/`, `${vm}/`],
      ]
      await writeFile(file, lines.map((fields) => `${fields.join('\t')}\n`).join(''))
      await mkdir(join(root, vm), { recursive: true })
      await run(program, '-c', file, 'daily')
      return join(copies, 'daily.0')
    },
    borgmatic: async (program, vm) => {
      const password = join(directory, 'borg.pw')
      await writeFile(password, 'test\n', { mode: 0o600 })
      const sample = await readFile(join(INTEGRATIONS, 'borgmatic', 'config', 'web01-1.7.yaml'), 'utf8')
      const file = join(directory, `borgmatic-${vm}.yaml`)
      const places = [
        ['/usr/local/lib/vcb/integrations', INTEGRATIONS],
        ['/var/lib/vcb/mnt', root],
        ['/backup/borg', join(directory, `borgmatic-${vm}`)],
        ['/etc/vcb/borg.pw', password],
        ['web01', vm],
      ] as const
      await writeFile(
        file,
        places.reduce((text, [sampled, here]) => text.replaceAll(sampled, here), sample),
      )
      // No test machine has a syslog, of whose absence it complains at length.
      const named = ['-c', file, '--syslog-verbosity', '-1']
      await run(program, ...named, 'init', '-e', 'repokey')
      return named
    },
  }
}
