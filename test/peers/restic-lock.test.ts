import { spawn } from 'node:child_process'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Secret, systemClock } from '../../src/core/index.ts'
import { directoryBackend, isHexId, openRepository } from '../../src/restic/index.ts'
import { describePeer } from '../peer.ts'
import { backupImage, deps, PASSWORD, ResticPlace, testImage } from './restic-fixture.ts'

/** Waits for a finished lock file; restic writes it under another name first. */
async function lockAppears(place: ResticPlace): Promise<void> {
  while (!(await readdir(join(place.path, 'locks'))).some((name) => isHexId(name))) await systemClock.sleep(2)
}

describePeer('restic', 'locks between us and stock restic', (restic) => {
  it('restic sees our writer’s lock: it may back up, and must not prune', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    await backupImage(repository, testImage(2))
    {
      await using writer = await repository.beginWrite()
      expect(writer.signal.aborted).toBe(false)
      const pruned = await place.tryRestic('prune')
      expect(pruned.status).not.toBe(0)
      expect(pruned.stderr).toMatch(/already locked by PID \d+ on vcb-test-host by tester/u)
      await place.restic('backup', join(place.path, 'config'))
    }
    await place.restic('prune')
    expect(await readdir(join(place.path, 'locks'))).toEqual([])
  })

  it('restic’s exclusive lock keeps us off and names its holder; its shared lock does not', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const id = await backupImage(repository, testImage(6))
    // A restic that is stopped in the middle of a check (exclusive), still alive.
    const env = { ...process.env, RESTIC_REPOSITORY: place.path, RESTIC_PASSWORD: PASSWORD, TMPDIR: place.directory }
    const child = spawn(restic, ['check', '--read-data', '--no-cache'], { env, stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await lockAppears(place)
    child.kill('SIGSTOP')
    try {
      await expect(repository.beginWrite()).rejects.toMatchObject({
        code: 'CONFLICT',
        message: expect.stringContaining(`process ${child.pid}`),
      })
      await expect(repository.beginRead()).rejects.toMatchObject({ code: 'CONFLICT' })
      await expect(repository.snapshots.forget([id])).rejects.toMatchObject({ code: 'CONFLICT' })
    } finally {
      child.kill('SIGCONT')
    }
    await using writer = await repository.beginWrite({ waitMs: 60_000 })
    expect(writer.signal.aborted).toBe(false)
    await ended
    // Ours is shared; forgetting needs the exclusive lock and sees it.
    await expect(repository.snapshots.forget([id])).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('a lock of a dead process of this host is stale, of another host it is not', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const id = await backupImage(repository, testImage(6))
    const env = { ...process.env, RESTIC_REPOSITORY: place.path, RESTIC_PASSWORD: PASSWORD, TMPDIR: place.directory }
    const child = spawn(restic, ['check', '--read-data', '--no-cache'], { env, stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await lockAppears(place)
    child.kill('SIGKILL')
    await ended
    expect(await readdir(join(place.path, 'locks'))).toHaveLength(1)
    await expect(repository.beginWrite()).rejects.toMatchObject({ code: 'CONFLICT' })
    const { hostname } = await import('node:os')
    const here = { ...deps(), hostname: hostname() }
    await using local = await openRepository(directoryBackend(place.path), new Secret(PASSWORD), here)
    await local.snapshots.forget([id])
    expect(await readdir(join(place.path, 'locks'))).toEqual([])
    expect(await Array.fromAsync(local.snapshots.list())).toEqual([])
  })

  it('a writer whose lock was removed by "restic unlock" does not commit', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    await using writer = await repository.beginWrite()
    const slot = await writer.blocks.acquire()
    slot.bytes.fill(7)
    const { id } = await writer.blocks.submit(slot, 4096)
    expect(id).toHaveLength(32)
    const tree = await writer.saveTree([])
    await place.restic('unlock', '--remove-all')
    const snapshot = { time: '2026-11-22T10:00:00Z', tree, paths: ['/x'], hostname: 'vm', username: '' }
    await expect(writer.commit(snapshot)).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('lock') })
    expect(writer.signal.aborted).toBe(true)
    await expect(writer.blocks.acquire()).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await Array.fromAsync(repository.snapshots.list())).toEqual([])
    await rm(join(place.path, 'locks'), { recursive: true })
  })
})
