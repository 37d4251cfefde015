import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOfFile, type LabSession } from '../flow/lab-session.ts'
import { leasesOf, openGuestFiles } from '../flow/mount-world.ts'
import { canMount, leftovers, requireMounting } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import { type ProductWorld, productWorld } from './product-world.ts'

/** Real products back up the files of a guest through the scripts, and restore them equal: an ext4 and an NTFS VM of the lab. */

/** By base name; test/golden/guest-disks/README.md lists the SHA-256 of each. */
const VMS = [
  ['linux', ['hostname', 'os-release', 'random.bin', 'Übung eins.txt', 'messages']],
  ['windows', ['random.bin', 'Übung eins.txt', 'messages']],
] as const

let session: LabSession
let world: ProductWorld
let listed: ReadonlyMap<string, string>
beforeAll(async () => {
  session = await openGuestFiles()
  world = await productWorld(session)
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

describe('the files of a guest', () => {
  it('are stored by restic and come back equal', { timeout: 120_000 }, async () => {
    requireMounting()
    const restic = requirePeer('restic')
    await world.run(restic, 'init', '-q')
    for (const [vm, names] of VMS) {
      await world.wrapped(['--vm', vm], restic, 'backup', '-q', '--host', vm, join(world.root, vm))
      await expectNothingLeft()
      const target = join(session.directory, `restic-${vm}`)
      await world.run(restic, 'restore', '-q', 'latest', '--host', vm, '--target', target)
      await expectFiles(names, target)
    }
  })

  it('are stored by Borg and come back equal', { timeout: 120_000 }, async () => {
    requireMounting()
    const borg = requirePeer('borg')
    await world.run(borg, 'init', '-e', 'none')
    for (const [vm, names] of VMS) {
      await world.wrapped(['--vm', vm], borg, 'create', `::${vm}`, join(world.root, vm))
      await expectNothingLeft()
      const target = join(session.directory, `borg-${vm}`)
      await mkdir(target)
      await world.run('env', '-C', target, borg, 'extract', `::${vm}`)
      await expectFiles(names, target)
    }
  })

  it('are copied by rsnapshot', { timeout: 120_000 }, async () => {
    requireMounting()
    const rsnapshot = requirePeer('rsnapshot')
    for (const [vm, names] of VMS) {
      const copy = await world.rsnapshot(rsnapshot, vm)
      await expectNothingLeft()
      await expectFiles(names, copy)
    }
  })
})
