import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOfFile, type LabSession, openLabSession } from '../flow/lab-session.ts'
import { COMMAND, leasesOf } from '../flow/mount-world.ts'
import { canMount, leftovers, requireMounting } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import { quoted } from './emulated-caller.ts'
import { INTEGRATIONS } from './module.ts'

/** Real products back up the files of a guest through the scripts, and restore them equal: an ext4 and an NTFS VM of the lab. */
const run = promisify(execFile)
const vcbRun = join(INTEGRATIONS, 'generic', 'vcb-run')

/** SHA-256 of each file, by its base name, as test/golden/guest-disks/README.md lists them. */
const LINUX = ['hostname', 'os-release', 'random.bin', 'Übung eins.txt', 'messages']
const WINDOWS = ['random.bin', 'Übung eins.txt', 'messages']

let session: LabSession
let root: string
let environment: NodeJS.ProcessEnv
let listed: ReadonlyMap<string, string>
beforeAll(async () => {
  const disk = (content: string) => ({ power: 'poweredOn', disks: [{ size: '64MiB', content }] })
  session = await openLabSession({
    scenario: {
      taskMs: 0,
      recordDigests: true,
      datacenters: [
        {
          name: 'DC',
          hosts: [{ name: 'esx1' }],
          datastores: [{ name: 'ds1', type: 'VMFS6' }],
          vms: [
            { name: 'linux', ...disk('fixture:ext4') },
            { name: 'windows', ...disk('fixture:ntfs') },
          ],
        },
      ],
    },
  })
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
  const text = await readFile(join(import.meta.dirname, '..', 'golden', 'guest-disks', 'README.md'), 'utf8')
  listed = new Map([...text.matchAll(/^([0-9a-f]{64}) {2}.*\/([^/\n]+)$/gm)].map(([, digest = '', name = '']) => [name, digest]))
}, 60_000)
afterAll(() => session[Symbol.asyncDispose]())

/** Each of the guest's files lies somewhere below, with its bytes. */
async function expectFiles(names: readonly string[], directory: string): Promise<void> {
  const found = await readdir(directory, { recursive: true, withFileTypes: true })
  for (const name of names) {
    const wanted = listed.get(name)
    expect(wanted, name).toBeDefined()
    const file = found.find((each) => each.isFile() && each.name.replace(/^messages\.txt$/, 'messages') === name)
    expect(file, `${name} below ${directory}`).toBeDefined()
    expect(await digestOfFile(join(file?.parentPath ?? '', file?.name ?? ''))).toBe(wanted)
  }
}

async function expectNothingLeft(): Promise<void> {
  expect(await leasesOf(session)).toEqual([])
  await session.expectClean()
  if (canMount()) expect(await leftovers(session.directory)).toEqual([])
}

const VMS = [
  ['linux', LINUX],
  ['windows', WINDOWS],
] as const

describe('the files of a guest', () => {
  it('are stored by restic and come back equal', { timeout: 120_000 }, async () => {
    requireMounting()
    const restic = requirePeer('restic')
    await run(restic, ['init', '-q'], { env: environment })
    for (const [vm, names] of VMS) {
      await run(vcbRun, ['--vm', vm, '--', restic, 'backup', '-q', '--host', vm, join(root, vm)], { env: environment })
      await expectNothingLeft()
      const target = join(session.directory, `restic-${vm}`)
      await run(restic, ['restore', '-q', 'latest', '--host', vm, '--target', target], { env: environment })
      await expectFiles(names, target)
    }
  })

  it('are stored by Borg and come back equal', { timeout: 120_000 }, async () => {
    requireMounting()
    const borg = requirePeer('borg')
    await run(borg, ['init', '-e', 'none'], { env: environment })
    for (const [vm, names] of VMS) {
      await run(vcbRun, ['--vm', vm, '--', borg, 'create', `::${vm}`, join(root, vm)], { env: environment })
      await expectNothingLeft()
      const target = join(session.directory, `borg-${vm}`)
      await mkdir(target)
      await run(borg, ['extract', `::${vm}`], { env: environment, cwd: target })
      await expectFiles(names, target)
    }
  })

  it('are copied by rsnapshot', { timeout: 120_000 }, async () => {
    requireMounting()
    const rsnapshot = requirePeer('rsnapshot')
    for (const [vm, names] of VMS) {
      const copies = join(session.directory, `rsnapshot-${vm}`)
      const file = join(session.directory, `rsnapshot-${vm}.conf`)
      const lines = [
        ['config_version', '1.2'],
        ['snapshot_root', `${copies}/`],
        ['cmd_cp', '/bin/cp'],
        ['cmd_rm', '/bin/rm'],
        ['cmd_rsync', '/usr/bin/rsync'],
        ['cmd_preexec', `${join(INTEGRATIONS, 'rsnapshot', 'pre-backup')} --vm ${vm}`],
        ['cmd_postexec', `${join(INTEGRATIONS, 'rsnapshot', 'post-backup')} --vm ${vm}`],
        ['retain', 'daily', '3'],
        ['lockfile', join(session.directory, `rsnapshot-${vm}.pid`)],
        ['backup', `${join(root, vm)}/`, `${vm}/`],
      ]
      await writeFile(file, lines.map((fields) => `${fields.join('\t')}\n`).join(''))
      await mkdir(join(root, vm), { recursive: true })
      await run(rsnapshot, ['-c', file, 'daily'], { env: environment })
      await expectNothingLeft()
      await expectFiles(names, join(copies, 'daily.0'))
    }
  })
})
