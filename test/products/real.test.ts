import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOfFile, type LabSession } from '../flow/lab-session.ts'
import { COMMAND, leasesOf, openMountSession, until, untilNoLease } from '../flow/mount-world.ts'
import { requirePeer } from '../peer.ts'
import { quoted } from './emulated-caller.ts'
import { INTEGRATIONS } from './module.ts'

/**
 * Real products through the scripts, the real command and the lab: what the product restores is what was frozen, and after a job that was
 * canceled or killed the lab has no snapshot of ours.
 */
const run = promisify(execFile)
const vcbRun = join(INTEGRATIONS, 'generic', 'vcb-run')

let session: LabSession
let root: string
let environment: NodeJS.ProcessEnv
beforeAll(async () => {
  session = await openMountSession()
  root = join(session.directory, 'mnt')
  await mkdir(root)
  const command = join(session.directory, 'vcb')
  await writeFile(command, `#!/bin/sh\nexec ${quoted(process.execPath)} ${quoted(COMMAND)} "$@"\n`, { mode: 0o755 })
  const settings = join(session.directory, 'scripts.conf')
  await writeFile(settings, `VCB_COMMAND=${command}\nVCB_MOUNT_ROOT=${root}\nVCB_SCRIPTS_STATE=${join(session.directory, 'scripts')}\n`)
  environment = {
    ...process.env,
    ...session.environment,
    VCB_SCRIPTS_CONF: settings,
    RESTIC_REPOSITORY: join(session.directory, 'restic'),
    RESTIC_PASSWORD: 'test',
    RESTIC_CACHE_DIR: join(session.directory, 'cache'),
    BORG_REPO: join(session.directory, 'borg'),
    BORG_BASE_DIR: session.directory,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  }
}, 60_000)
afterAll(() => session[Symbol.asyncDispose]())

const wrapped = (vm: string, type: string, ...command: readonly string[]) =>
  run(vcbRun, ['--vm', vm, '--type', type, '--', ...command], { env: environment, timeout: 120_000 })

/** Every flat disk below a directory has the digest the lab took when the snapshot was made. */
async function expectFrozen(vm: string, directory: string): Promise<void> {
  const disks = (await readdir(directory, { recursive: true })).filter((name) => name.endsWith('-flat.vmdk'))
  const found = await Promise.all(disks.map((name) => digestOfFile(join(directory, name))))
  expect(found.sort()).toEqual([...(await session.frozenDigests(vm)).values()].sort())
}

/** Before the product there is another child: the command that mounts. */
async function hasChild(pid: number, name: string): Promise<boolean> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).split(' ').filter((each) => each !== '')
  const names = await Promise.all(children.map((each) => readFile(`/proc/${each}/comm`, 'utf8').catch(() => '')))
  return names.some((each) => each.trim() === name)
}

async function expectNothingLeft(vm: string): Promise<void> {
  expect(await leasesOf(session)).toEqual([])
  await session.expectClean()
  expect(await readdir(join(root, vm))).toEqual([])
}

describe('restic', () => {
  it('stores an exported VM through vcb-run and restores it equal', async () => {
    const restic = requirePeer('restic')
    await run(restic, ['init', '-q'], { env: environment })
    await wrapped('web', 'export', restic, 'backup', '-q', '--host', 'web', join(root, 'web'))
    await expectNothingLeft('web')
    const target = join(session.directory, 'restored-restic')
    await run(restic, ['restore', '-q', 'latest', '--host', 'web', '--target', target], { env: environment })
    await expectFrozen('web', target)
  })

  it.each(['SIGTERM', 'SIGKILL'] as const)('%s in mid backup: no snapshot of ours is left', async (signal) => {
    const restic = requirePeer('restic')
    const args = ['--vm', 'one', '--type', 'disk,export', '--', restic, 'backup', '-q', '--limit-upload', '50', join(root, 'one')]
    const child = spawn(vcbRun, args, { env: environment, stdio: 'ignore', detached: true })
    const ended = once(child, 'exit')
    await until('the product reads', async () => (await leasesOf(session)).some(({ state }) => state === 'ready'))
    await until('restic runs', () => hasChild(child.pid ?? 0, 'restic'))
    child.kill(signal)
    const [status] = await ended
    if (signal === 'SIGTERM') expect(status).toBe(11)
    else {
      // The orphan reads on until its files are gone; the test is about the lease.
      process.kill(-(child.pid ?? 0), 'SIGKILL')
      await untilNoLease(session)
    }
    await expectNothingLeft('one')
    await run(restic, ['unlock', '-q', '--remove-all'], { env: environment })
  })
})

describe('Borg', () => {
  it('stores an exported VM through vcb-run and restores it equal', async () => {
    const borg = requirePeer('borg')
    await run(borg, ['init', '-e', 'none'], { env: environment })
    await wrapped('two', 'export', borg, 'create', '::two', join(root, 'two'))
    await expectNothingLeft('two')
    const target = join(session.directory, 'restored-borg')
    await mkdir(target)
    await run(borg, ['extract', '::two'], { env: environment, cwd: target })
    await expectFrozen('two', target)
  })
})

describe('rsnapshot', () => {
  it('keeps an exported VM by its pre- and post-scripts', async () => {
    const rsnapshot = requirePeer('rsnapshot')
    const copies = join(session.directory, 'rsnapshot')
    const file = join(session.directory, 'rsnapshot.conf')
    const script = (which: string): string => `${join(INTEGRATIONS, 'rsnapshot', which)} --vm two --type export`
    const lines = [
      ['config_version', '1.2'],
      ['snapshot_root', `${copies}/`],
      ['cmd_cp', '/bin/cp'],
      ['cmd_rm', '/bin/rm'],
      ['cmd_rsync', '/usr/bin/rsync'],
      ['cmd_preexec', script('pre-backup')],
      ['cmd_postexec', script('post-backup')],
      ['retain', 'daily', '3'],
      ['lockfile', join(session.directory, 'rsnapshot.pid')],
      ['backup', `${join(root, 'two')}/`, 'two/'],
    ]
    await writeFile(file, lines.map((fields) => `${fields.join('\t')}\n`).join(''))
    await mkdir(join(root, 'two'), { recursive: true })
    await run(rsnapshot, ['-c', file, 'daily'], { env: environment })
    await expectNothingLeft('two')
    await expectFrozen('two', join(copies, 'daily.0'))
  })
})
