import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOfFile, type LabSession } from '../flow/lab-session.ts'
import { leasesOf, openMountSession, until, untilNoLease } from '../flow/mount-world.ts'
import { requirePeer } from '../peer.ts'
import { type ProductWorld, productWorld, VCB_RUN } from './product-world.ts'

/**
 * Real products through the scripts, the real command and the lab: what the product restores is what was frozen, and after a job that was
 * canceled or killed the lab has no snapshot of ours.
 */
let session: LabSession
let world: ProductWorld
beforeAll(async () => {
  session = await openMountSession()
  world = await productWorld(session)
})
afterAll(() => session[Symbol.asyncDispose]())

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
  expect(await readdir(join(world.root, vm))).toEqual([])
}

describe('restic', () => {
  it('stores an exported VM through vcb-run and restores it equal', async () => {
    const restic = requirePeer('restic')
    await world.run(restic, 'init', '-q')
    await world.wrapped(['--vm', 'web', '--type', 'export'], restic, 'backup', '-q', '--host', 'web', join(world.root, 'web'))
    await expectNothingLeft('web')
    const target = join(session.directory, 'restored-restic')
    await world.run(restic, 'restore', '-q', 'latest', '--host', 'web', '--target', target)
    await expectFrozen('web', target)
  })

  it.each(['SIGTERM', 'SIGKILL'] as const)('%s in mid backup: no snapshot of ours is left', async (signal) => {
    const restic = requirePeer('restic')
    const args = ['--vm', 'one', '--type', 'disk,export', '--', restic, 'backup', '-q', '--limit-upload', '50', join(world.root, 'one')]
    const child = spawn(VCB_RUN, args, { env: world.environment, stdio: 'ignore', detached: true })
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
    await world.run(restic, 'unlock', '-q', '--remove-all')
  })
})

describe('Borg', () => {
  it('stores an exported VM through vcb-run and restores it equal', async () => {
    const borg = requirePeer('borg')
    await world.run(borg, 'init', '-e', 'none')
    await world.wrapped(['--vm', 'two', '--type', 'export'], borg, 'create', '::two', join(world.root, 'two'))
    await expectNothingLeft('two')
    const target = join(session.directory, 'restored-borg')
    await mkdir(target)
    await world.run('env', '-C', target, borg, 'extract', '::two')
    await expectFrozen('two', target)
  })
})

describe('rsnapshot', () => {
  it('keeps an exported VM by its pre- and post-scripts', async () => {
    const rsnapshot = requirePeer('rsnapshot')
    const copy = await world.rsnapshot(rsnapshot, 'two', '--type export')
    await expectNothingLeft('two')
    await expectFrozen('two', copy)
  })
})
