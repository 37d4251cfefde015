import { randomBytes } from 'node:crypto'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { BlobIds } from '../../src/restic/index.ts'
import { describePeer } from '../peer.ts'
import { backupImage, fileNode, readBack, ResticPlace, testImage } from './restic-fixture.ts'

const problems = async (iterable: AsyncIterable<{ readonly what: string }>): Promise<string[]> =>
  (await Array.fromAsync(iterable)).map((problem) => problem.what)

describePeer('restic', 'stock restic on a repository that we made', () => {
  it('checks it clean, restores, dumps, lists and counts what we stored', async () => {
    await using place = await ResticPlace.make()
    const image = testImage(21)
    const odd = image.subarray(0, 5_000_001)
    await using repository = await place.init()
    const first = await backupImage(repository, image)
    const second = await backupImage(repository, odd, 'odd <&> "näme"\u2028\t.img')

    await place.restic('check', '--read-data')
    await place.restic('restore', first, '--target', join(place.directory, 'out'))
    expect(Buffer.compare(await readFile(join(place.directory, 'out', 'vm', 'disk.img')), image)).toBe(0)
    expect((await stat(join(place.directory, 'out', 'vm', 'disk.img'))).mode & 0o777).toBe(0o600)
    expect((await stat(join(place.directory, 'out', 'vm'))).mode & 0o777).toBe(0o700)
    await place.restic('restore', second, '--target', join(place.directory, 'odd'))
    expect(Buffer.compare(await readFile(join(place.directory, 'odd', 'vm', 'odd <&> "näme"\u2028\t.img')), odd)).toBe(0)
    expect(Buffer.compare(await place.restic('dump', first, '/vm/disk.img'), image)).toBe(0)

    const stats: unknown = JSON.parse((await place.restic('stats', '--json', first)).toString())
    expect(stats).toMatchObject({ total_size: image.length, total_file_count: 2 })
    const snapshots: unknown = JSON.parse((await place.restic('snapshots', '--json')).toString())
    expect(snapshots).toHaveLength(2)
    expect(snapshots).toContainEqual(
      expect.objectContaining({ id: first, hostname: 'vm', tags: ['vcb'], paths: ['/vm'], time: '2026-11-22T10:00:00.123456789+01:00' }),
    )
    expect(await problems(repository.check({ readData: true }))).toEqual([])
  })

  it('decodes our trees by their ids', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const id = await backupImage(repository, testImage(3), 'a&b <c>.img')
    const { tree } = await repository.snapshots.get(id)
    const printed = await place.restic('cat', 'blob', tree)
    const nodes: unknown = JSON.parse(printed.toString())
    expect(nodes).toMatchObject({ nodes: [{ name: 'vm', type: 'dir', mode: 2 ** 31 + 0o700, content: null }] })
  })

  it('keeps what is used when it forgets and prunes, and we write on', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const image = testImage(30)
    const first = await backupImage(repository, image)
    const changed = Buffer.from(image)
    for (const block of [0, 5, 6, 20]) randomBytes(1024 * 1024).copy(changed, block * 1024 * 1024)
    const second = await backupImage(repository, changed)
    await place.restic('forget', first, '--prune', '--max-unused', '0')
    await place.restic('check', '--read-data')

    expect(Buffer.compare(await readBack(repository, second, 'vm', 'disk.img'), changed)).toBe(0)
    const third = await backupImage(repository, image)
    await place.restic('check', '--read-data')
    expect(Buffer.compare(await readBack(repository, third, 'vm', 'disk.img'), image)).toBe(0)
    await expect(repository.snapshots.get(first)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(Buffer.compare(await place.restic('dump', third, '/vm/disk.img'), image)).toBe(0)
  })

  it('is content with an incremental that reuses its parent’s blocks, and with our forget', async () => {
    await using place = await ResticPlace.make()
    await using repository = await place.init()
    const image = testImage(12)
    const first = await backupImage(repository, image)
    const parent = await repository.blobs.find((await repository.snapshots.get(first)).tree, ['vm', 'disk.img'])
    const content = parent?.content?.copy() ?? new BlobIds(0)
    const block = randomBytes(1024 * 1024)
    block.copy(image, 7 * 1024 * 1024)
    let second: string
    {
      await using writer = await repository.beginWrite()
      const slot = await writer.blocks.acquire()
      slot.bytes.set(block)
      content.set(7, (await writer.blocks.submit(slot, block.length)).id)
      const tree = await writer.saveTree([fileNode('disk.img', image.length, content)])
      second = await writer.commit({ time: '2026-11-23T00:00:00Z', parent: first, tree, paths: ['/vm'], hostname: 'vm', username: '' })
      expect(writer.stats().newBlobs).toBe(2)
    }
    await repository.snapshots.forget([first])
    await place.restic('prune')
    await place.restic('check', '--read-data')
    expect(Buffer.compare(await place.restic('dump', second, '/disk.img'), image)).toBe(0)
  })

  it('reads packs and indexes of every size and compression we can be set to', async () => {
    for (const options of [
      { blockSize: 65_536, codec: 'zlib' },
      { blockSize: 8 * 1024 * 1024, packSize: 4 * 1024 * 1024, compression: -5 },
    ] as const) {
      await using place = await ResticPlace.make()
      await using repository = await place.init(options)
      const image = testImage(17, 3)
      const id = await backupImage(repository, image)
      await place.restic('check', '--read-data')
      expect(Buffer.compare(await place.restic('dump', id, '/vm/disk.img'), image)).toBe(0)
    }
  })
})

describePeer('restic', 'a repository that stock restic made', () => {
  it('is accepted with its own file backups, written to, read, and stays clean', async () => {
    await using place = await ResticPlace.make()
    await place.restic('init', '--repository-version', '2')
    const source = join(place.directory, 'files')
    await mkdir(join(source, 'sub'), { recursive: true })
    const big = testImage(23, 1)
    const names = ['plain', 'with "quotes" and \\', 'tab\tand\nnewline', 'ünïcode-𝄞', '<&>']
    for (const name of names) await writeFile(join(source, 'sub', name), `content of ${name}`)
    await writeFile(join(source, 'big.bin'), big)
    await writeFile(join(source, 'empty'), '')
    await place.restic('backup', source)

    await using repository = await place.open()
    const [theirs] = await Array.fromAsync(repository.snapshots.list())
    const path = source.split('/').slice(1)
    expect(Buffer.compare(await readBack(repository, theirs?.id ?? '', ...path, 'big.bin'), big)).toBe(0)
    expect(await readBack(repository, theirs?.id ?? '', ...path, 'empty')).toHaveLength(0)
    for (const name of names)
      expect((await readBack(repository, theirs?.id ?? '', ...path, 'sub', name)).toString()).toBe(`content of ${name}`)

    const image = testImage(9, 2)
    const ours = await backupImage(repository, image)
    await place.restic('check', '--read-data')
    await place.restic('backup', source)
    await place.restic('check', '--read-data')
    expect(Buffer.compare(await readBack(repository, ours, 'vm', 'disk.img'), image)).toBe(0)
    expect(await problems(repository.check({ readData: true }))).toEqual([])
    expect(await problems(repository.check({ readData: true, snapshot: ours }))).toEqual([])
  })

  it('is read at random offsets although restic cut its files into chunks of any size', async () => {
    await using place = await ResticPlace.make()
    await place.restic('init', '--repository-version', '2')
    const big = randomBytes(20 * 1024 * 1024 + 77)
    await writeFile(join(place.directory, 'big.bin'), big)
    await place.restic('backup', '--compression', 'off', join(place.directory, 'big.bin'))
    await using repository = await place.open()
    const [snapshot] = await Array.fromAsync(repository.snapshots.list())
    const node = await repository.blobs.find(snapshot?.tree ?? '', join(place.directory, 'big.bin').split('/').slice(1))
    expect(node?.content?.length).toBeGreaterThan(3)
    if (node === undefined) throw new Error('no file')
    await using file = await repository.blobs.openFile(node)
    for (let round = 0; round < 40; round++) {
      const offset = randomBytes(4).readUInt32LE() % big.length
      const into = Buffer.alloc(Math.min(big.length - offset, randomBytes(4).readUInt32LE() % 4_000_000))
      await file.read(offset, into)
      expect(Buffer.compare(into, big.subarray(offset, offset + into.length))).toBe(0)
    }
  })

  it('of format version 1 is refused with the way to upgrade it, and accepted afterwards', async () => {
    await using place = await ResticPlace.make()
    await place.restic('init', '--repository-version', '1')
    await writeFile(join(place.directory, 'file'), 'content')
    await place.restic('backup', join(place.directory, 'file'))
    await expect(place.open()).rejects.toMatchObject({ code: 'CONFIG', next: expect.stringContaining('restic migrate upgrade_repo_v2') })
    await place.restic('migrate', 'upgrade_repo_v2')
    await using repository = await place.open()
    const [snapshot] = await Array.fromAsync(repository.snapshots.list())
    const bytes = await readBack(repository, snapshot?.id ?? '', ...place.directory.split('/').slice(1), 'file')
    expect(bytes.toString()).toBe('content')
    await backupImage(repository, testImage(5))
    await place.restic('check', '--read-data')
  })

  it('has its trees encoded by us byte for byte as by restic', async () => {
    await using place = await ResticPlace.make()
    await place.restic('init', '--repository-version', '2')
    const source = join(place.directory, 'files')
    await mkdir(join(source, 'sub'), { recursive: true })
    for (const name of ['a', 'B', 'with "quotes" \\ and \u0001', 'ünï \u00a0\u2028', '<&>', '𝄞\u{e000}'])
      await writeFile(join(source, 'sub', name), name)
    await place.restic('backup', source)
    await using repository = await place.open()
    const [snapshot] = await Array.fromAsync(repository.snapshots.list())
    const node = await repository.blobs.find(snapshot?.tree ?? '', [...source.split('/').slice(1), 'sub'])
    // The fields that we never write are taken out of restic's text; what is left must be ours exactly.
    const text = (await place.restic('cat', 'blob', node?.subtree ?? '')).toString().replace(/"(?:inode|device_id|links)":\d+,/gu, '')
    const { encodeTree, parseTree } = await import('../../src/restic/tree.ts')
    expect(encodeTree(parseTree(Buffer.from(text), 'x')).toString()).toBe(text)
  })
})
