import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, it } from 'vitest'
import type { LabSession } from '../flow/lab-session.ts'
import { openGuestFiles } from '../flow/mount-world.ts'
import { requireMounting } from '../mount-world.ts'
import { requirePeer } from '../peer.ts'
import { expectFiles, expectNothingLeft, VMS } from './guest-files.ts'
import { type ProductWorld, productWorld } from './product-world.ts'

/** Real products back up the files of a guest through the scripts, and restore them equal: an ext4 and an NTFS VM of the lab. */

let session: LabSession
let world: ProductWorld
beforeAll(async () => {
  session = await openGuestFiles()
  world = await productWorld(session)
})
afterAll(() => session[Symbol.asyncDispose]())

describe('the files of a guest', () => {
  it('are stored by restic and come back equal', { timeout: 120_000 }, async () => {
    requireMounting()
    const restic = requirePeer('restic')
    await world.run(restic, 'init', '-q')
    for (const [vm, names] of VMS) {
      await world.wrapped(['--vm', vm], restic, 'backup', '-q', '--host', vm, join(world.root, vm))
      await expectNothingLeft(session)
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
      await expectNothingLeft(session)
      const target = join(session.directory, `borg-${vm}`)
      await mkdir(target)
      await world.run('env', '-C', target, borg, 'extract', `::${vm}`)
      await expectFiles(names, target)
    }
  })

  it('are stored by borgmatic and come back equal', { timeout: 120_000 }, async () => {
    requireMounting()
    const borgmatic = requirePeer('borgmatic')
    for (const [vm, names] of VMS) {
      const named = await world.borgmatic(vm)
      // One repository for both.
      if (vm === 'linux') await world.run(borgmatic, ...named, 'init', '-e', 'repokey')
      await world.run(borgmatic, ...named, 'create')
      await expectNothingLeft(session)
      const target = join(session.directory, `borgmatic-out-${vm}`)
      await mkdir(target)
      await world.run(borgmatic, ...named, 'extract', '--archive', 'latest', '--destination', target)
      await expectFiles(names, target)
    }
  })

  it('are copied by rsnapshot', { timeout: 120_000 }, async () => {
    requireMounting()
    const rsnapshot = requirePeer('rsnapshot')
    for (const [vm, names] of VMS) {
      const copy = await world.rsnapshot(rsnapshot, vm)
      await expectNothingLeft(session)
      await expectFiles(names, copy)
    }
  })
})
