import { execFile } from 'node:child_process'
import { mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Extent, GIB, isZero, MIB, type Range, rangeEnd, silentLog } from '../../src/core/index.ts'
import { openTarProvider } from '../../src/provider/tar-provider.ts'
import { diskRef, expectPoint, noise, patterned, WatchedDisk, whole, writePoint } from '../contract/provider-fixtures.ts'
import { describePeer, describePeers } from '../peer.ts'
import { fastDirectory } from '../fast-directory.ts'

const run = promisify(execFile)
let directory: string
beforeEach(async () => {
  directory = await fastDirectory('vcb-peer-tar-')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const extract = async (tar: string, archive: string, into: string): Promise<void> => {
  await mkdir(into, { recursive: true })
  await run(tar, ['-x', '-f', archive, '-C', into])
}

/** A huge disk with data at a few places only. */
class HugeDisk extends WatchedDisk {
  readonly #size: number
  readonly #at: readonly number[]
  constructor(size: number, at: readonly number[]) {
    super(noise(MIB, 'huge'))
    this.#size = size
    this.#at = at
  }
  override get size(): number {
    return this.#size
  }
  override async read(offset: number, into: Uint8Array): Promise<void> {
    const start = this.#at.find((at) => offset >= at && offset + into.length <= at + MIB)
    if (start === undefined) throw new Error(`read outside the data: ${offset}`)
    into.set(this.bytes.subarray(offset - start, offset - start + into.length))
    await Promise.resolve()
  }
  override async *extents(range: Range): AsyncGenerator<Extent> {
    let next = range.offset
    for (const at of this.#at) {
      const start = Math.max(next, at)
      const end = Math.min(rangeEnd(range), at + MIB)
      if (end <= start) continue
      if (start > next) yield { offset: next, length: start - next, kind: 'zero' }
      yield { offset: start, length: end - start, kind: 'data' }
      next = end
      await Promise.resolve()
    }
    if (next < rangeEnd(range)) yield { offset: next, length: rangeEnd(range) - next, kind: 'zero' }
  }
}

describePeers(['tar', 'qemu-img'], 'GNU tar extracts our archives', ({ tar, 'qemu-img': qemuImg }) => {
  it('a full: sparse image byte for byte, descriptor that qemu-img opens', async () => {
    await using provider = await openTarProvider(join(directory, 'archives'), { init: true, log: silentLog })
    const disk = new WatchedDisk(
      patterned(9 * MIB + 512, [
        { offset: 100_000, length: 500_000 },
        { offset: 8 * MIB, length: 700_000 },
      ]),
    )
    const { id } = await writePoint(provider, [{ disk: diskRef(2000, disk.size, '[ds] w/web01.vmdk'), source: disk }])
    await extract(tar, join(directory, 'archives', `${id}.tar`), directory)
    const files = await readdir(join(directory, 'web01'))
    expect(files.sort()).toEqual(
      ['commit.json', 'manifest.json', 'point.json', 'web01-flat.vmdk', 'web01.sha256blocks', 'web01.vmdk', 'web01.vmx'].sort(),
    )
    const image = join(directory, 'web01', 'web01-flat.vmdk')
    expect((await readFile(image)).equals(disk.bytes)).toBe(true)
    expect((await stat(image)).blocks * 512).toBeLessThan(3 * MIB)
    await run(qemuImg, ['convert', '-f', 'vmdk', '-O', 'raw', join(directory, 'web01', 'web01.vmdk'), join(directory, 'raw')])
    expect((await readFile(join(directory, 'raw'))).equals(disk.bytes)).toBe(true)
  })

  it('an incremental: the documented loop of dd gives the image', async () => {
    await using provider = await openTarProvider(join(directory, 'archives'), { init: true, log: silentLog })
    const before = new WatchedDisk(noise(4 * MIB, 1))
    const full = await writePoint(provider, [{ disk: diskRef(2000, before.size, '[ds] w/web01.vmdk'), source: before }])
    const bytes = Buffer.from(before.bytes)
    noise(65_536, 2).copy(bytes, MIB - 32_768)
    bytes.fill(0, 3 * MIB, 3 * MIB + 131_072)
    const ranges = [
      { offset: MIB - 32_768, length: 65_536 },
      { offset: 3 * MIB, length: 131_072 },
    ]
    const next = await writePoint(
      provider,
      [{ disk: diskRef(2000, bytes.length, '[ds] w/web01.vmdk'), source: new WatchedDisk(bytes), ranges }],
      { parent: full.id },
    )
    await extract(tar, join(directory, 'archives', `${full.id}.tar`), join(directory, 'full'))
    await extract(tar, join(directory, 'archives', `${next.id}.tar`), join(directory, 'incremental'))
    const document = await readFile(join(import.meta.dirname, '../../docs/formats/tar-archive.md'), 'utf8')
    const [, loop = ''] = /```\n(while[\s\S]*?)```/u.exec(document) ?? []
    const script = loop
      .replaceAll('INCREMENTAL/DISK', join(directory, 'incremental/web01/web01'))
      .replaceAll('FULL/DISK', join(directory, 'full/web01/web01'))
    expect(script).toContain('dd ')
    await run('sh', ['-e', '-c', script])
    expect((await readFile(join(directory, 'full/web01/web01-flat.vmdk'))).equals(bytes)).toBe(true)
  })

  it('a disk of 40 GiB with data on both sides of 8 GiB, streamed to standard output', async () => {
    const places = [0, 9 * GIB, 40 * GIB - MIB]
    const stdout = new PassThrough()
    const received = buffer(stdout)
    await using provider = await openTarProvider('-', { stdout, log: silentLog })
    expect(provider.points).toBeUndefined()
    const disk = new HugeDisk(40 * GIB, places)
    await writePoint(provider, [{ disk: diskRef(2000, disk.size, '[ds] w/web01.vmdk'), source: disk }])
    stdout.end()
    const archive = join(directory, 'stdout.tar')
    const body = await received
    expect(body.length).toBeLessThan(4 * MIB)
    await writeFile(archive, body)
    await extract(tar, archive, directory)
    await using image = await open(join(directory, 'web01', 'web01-flat.vmdk'))
    expect((await image.stat()).size).toBe(40 * GIB)
    for (const at of places) {
      const found = Buffer.alloc(MIB)
      await image.read(found, 0, MIB, at)
      expect(found.equals(disk.bytes), `data at ${at}`).toBe(true)
    }
    const hole = Buffer.alloc(MIB, 1)
    await image.read(hole, 0, MIB, 8 * GIB)
    expect(isZero(hole)).toBe(true)
  })
})

describePeer('tar', 'archives and GNU tar', (tar) => {
  it('writes whole records into a pipe, as into a tape', async () => {
    const fifo = join(directory, 'tape')
    await run('mkfifo', [fifo])
    const copy = join(directory, 'copy.tar')
    const reading = run('sh', ['-c', `cat "$0" > "$1"`, fifo, copy])
    await using provider = await openTarProvider(fifo, { log: silentLog })
    expect(provider.points).toBeUndefined()
    expect(provider.incremental.ok).toBe(false)
    const disk = new WatchedDisk(noise(MIB + 512, 1))
    await writePoint(provider, [{ disk: diskRef(2000, disk.size), source: disk }])
    await reading
    expect((await stat(copy)).size % 10_240).toBe(0)
    await extract(tar, copy, directory)
    expect((await readFile(join(directory, 'web01', 'vm-2000-flat.vmdk'))).equals(disk.bytes)).toBe(true)
    await using file = await openTarProvider(copy, { log: silentLog })
    const [point] = await Array.fromAsync(file.points?.list() ?? [])
    if (point === undefined) throw new Error('the copy of the tape is not listed')
    await expectPoint(file, point.id, new Map([[2000, disk.bytes]]))
  })

  it('truncated anywhere, an archive is no point', async () => {
    await using provider = await openTarProvider(join(directory, 'archives'), { init: true, log: silentLog })
    const disk = new WatchedDisk(noise(MIB, 1))
    const { id } = await writePoint(provider, [{ disk: diskRef(2000, disk.size), source: disk, ranges: whole(disk.size) }])
    const path = join(directory, 'archives', `${id}.tar`)
    const { size } = await stat(path)
    for (const cut of [1, 512, 1024, 1025, 1536, 4096, size / 2, size - 512, size - 1]) {
      const body = await readFile(path)
      await truncate(path, Math.floor(size - cut))
      expect(await Array.fromAsync(provider.points?.list() ?? []), `cut ${cut}`).toEqual([])
      await expect(provider.points?.open(id)).rejects.toMatchObject({ code: 'INTEGRITY' })
      await writeFile(path, body)
    }
    await expectPoint(provider, id, new Map([[2000, disk.bytes]]))
  })

  it('a flipped bit in the data is seen when it is read', async () => {
    await using provider = await openTarProvider(join(directory, 'archives'), { init: true, log: silentLog })
    const disk = new WatchedDisk(noise(3 * MIB, 1))
    const { id } = await writePoint(provider, [{ disk: diskRef(2000, disk.size), source: disk }])
    const path = join(directory, 'archives', `${id}.tar`)
    const body = await readFile(path)
    const at = body.indexOf(disk.bytes.subarray(2 * MIB, 2 * MIB + 64))
    body[at] = (body[at] ?? 0) ^ 1
    await writeFile(path, body)
    const problems = await Array.fromAsync(provider.points?.check(id, { readData: true }) ?? [])
    expect(problems).toMatchObject([{ point: id, what: expect.stringContaining('MiB 2') }])
  })
})
