import { execFile } from 'node:child_process'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MIB, silentLog } from '../../src/core/index.ts'
import { openDirProvider } from '../../src/provider/dir-provider.ts'
import {
  diskRef,
  facts,
  nextTime,
  noise,
  patterned,
  plan,
  vmConfig,
  WatchedDisk,
  whole,
  writePoint,
} from '../contract/provider-fixtures.ts'
import { describePeer } from '../peer.ts'
import { fastDirectory } from '../fast-directory.ts'

const run = promisify(execFile)
let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-peer-dir-')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describePeer('qemu-img', 'qemu-img reads directory exports', (qemuImg) => {
  it.each(['flat', 'split-sparse', 'streamOptimized'] as const)('%s', async (exportFormat) => {
    await using provider = await openDirProvider(directory, { exportFormat, log: silentLog })
    const disk = new WatchedDisk(
      patterned(5 * MIB + 512, [
        { offset: 200_000, length: 900_000 },
        { offset: 5 * MIB, length: 512 },
      ]),
    )
    const { id } = await writePoint(provider, [{ disk: diskRef(2000, disk.size, '[ds] w/web01.vmdk'), source: disk }])
    await run(qemuImg, ['convert', '-f', 'vmdk', '-O', 'raw', join(directory, id, 'web01.vmdk'), join(directory, 'raw')])
    expect((await readFile(join(directory, 'raw'))).subarray(0, disk.size).equals(disk.bytes)).toBe(true)
    await run('sh', ['-c', 'cd "$0" && sha256sum -c --quiet SHA256SUMS', join(directory, id)])
  })

  it('a flipped bit is seen when it is read', async () => {
    await using provider = await openDirProvider(directory, { log: silentLog })
    const disk = new WatchedDisk(noise(3 * MIB, 1))
    const { id } = await writePoint(provider, [{ disk: diskRef(2000, disk.size, '[ds] w/web01.vmdk'), source: disk }])
    expect((await stat(join(directory, id, 'web01-flat.vmdk'))).size).toBe(disk.size)
    {
      await using image = await open(join(directory, id, 'web01-flat.vmdk'), 'r+')
      await image.write(Buffer.from([(disk.bytes[MIB] ?? 0) ^ 1]), 0, 1, MIB)
    }
    expect(await Array.fromAsync(provider.points?.check(id) ?? [])).toEqual([])
    expect(await Array.fromAsync(provider.points?.check(id, { readData: true }) ?? [])).toMatchObject([{ point: id }])
  })

  it('answers an incremental plan with the whole disk, and says why', async () => {
    await using provider = await openDirProvider(directory, { log: silentLog })
    expect(provider.incremental).toMatchObject({ ok: false })
    const disk = diskRef(2000, 2 * MIB)
    const source = new WatchedDisk(noise(disk.capacityBytes, 1))
    await using writer = await provider.begin({
      config: vmConfig('web01', [disk]),
      run: 'aaaaaa' as never,
      time: nextTime(),
      parent: 'x' as never,
    })
    const written = await writer.putDisk(disk, source, plan('incremental', [{ offset: 0, length: 512 }]))
    source.expectReadsWithin(whole(source.size))
    const { manifest } = await writer.commit(facts('incremental', [{ disk, written }]))
    expect(manifest).toMatchObject({ mode: 'full', disks: [{ mode: 'full', modeReason: expect.stringContaining('always a full') }] })
    expect(manifest.parent).toBeUndefined()
  })
})
