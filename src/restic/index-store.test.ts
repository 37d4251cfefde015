import { hash, randomBytes } from 'node:crypto'
import { mkdtemp, open, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Log, Secret, silentLog, systemClock } from '../core/index.ts'
import { directoryBackend } from './directory-backend.ts'
import { BlobIds } from './ids.ts'
import { initRepository, openRepository } from './open-repository.ts'
import type { Repository } from './repository.ts'

const TIME = '2026-11-22T10:00:00Z'

/** A repository whose index is kept in a cache although it is small. */
class Place implements AsyncDisposable {
  readonly path: string
  readonly warnings: string[] = []
  readonly #deps

  private constructor(path: string) {
    this.path = path
    const log: Log = { ...silentLog, warn: (text, more) => void this.warnings.push(text + JSON.stringify(more)) }
    this.#deps = { clock: systemClock, log, random: randomBytes, hostname: 'test-host', username: 'u', pid: process.pid }
  }

  static async make(): Promise<Place> {
    const place = new Place(await mkdtemp(join(tmpdir(), 'vcb-index-store-')))
    const kdf = { N: 1024, r: 8, p: 1 }
    const made = await initRepository(directoryBackend(join(place.path, 'repo')), new Secret('x'), place.#deps, { kdf })
    await made[Symbol.asyncDispose]()
    return place
  }

  /** `spill`: so many blobs in memory at most. */
  open(spill = 50): Promise<Repository> {
    return openRepository(directoryBackend(join(this.path, 'repo')), new Secret('x'), this.#deps, {
      workers: 1,
      cacheDirectory: join(this.path, 'cache'),
      indexSizes: { cacheBlobs: 20, spillBlobs: spill },
    })
  }

  /** Stores blobs of a few bytes as the content of one file; its node's tree. */
  async store(repository: Repository, words: readonly string[]): Promise<string> {
    await using writer = await repository.beginWrite()
    const content = new BlobIds(words.length)
    for (const [index, word] of words.entries()) content.set(index, (await writer.saveBlob(Buffer.from(word))).id)
    const size = words.join('').length
    const tree = await writer.saveTree([{ name: 'f', type: 'file', mode: 0o600, mtime: TIME, size, content }])
    await writer.commit({ time: TIME, tree, paths: ['/d'], hostname: 'vm', username: 'u' })
    return tree
  }

  async read(repository: Repository, tree: string): Promise<string> {
    const [node] = await repository.blobs.tree(tree)
    if (node === undefined) throw new Error('an empty tree')
    await using file = await repository.blobs.openFile(node)
    const bytes = Buffer.alloc(file.size)
    await file.read(0, bytes)
    return bytes.toString()
  }

  async cached(kind: 'run' | 'set'): Promise<string[]> {
    const [id = ''] = await readdir(join(this.path, 'cache')).catch(() => [])
    return id === ''
      ? []
      : (await readdir(join(this.path, 'cache', id)))
          .filter((name) => name.startsWith(kind))
          .map((name) => join(this.path, 'cache', id, name))
  }

  indexFiles(): Promise<string[]> {
    return readdir(join(this.path, 'repo', 'index'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true })
  }
}

const words = (name: string, count: number): string[] => Array.from({ length: count }, (_, number) => `${name} ${number};`)

describe('IndexStore with a cache', () => {
  it('reads from the cache what another process stored, and only new index files from the repository', async () => {
    await using place = await Place.make()
    const trees: string[] = []
    for (const name of ['a', 'b', 'c']) {
      await using repository = await place.open()
      trees.push(await place.store(repository, words(name, 120)))
    }
    await using repository = await place.open()
    for (const [index, name] of ['a', 'b', 'c'].entries())
      expect(await place.read(repository, trees[index] ?? '')).toBe(words(name, 120).join(''))
    expect(await place.cached('set')).toHaveLength(1)
    // What is known is not stored again, wherever it is known from.
    await using writer = await repository.beginWrite()
    for (const word of [...words('a', 120), ...words('c', 120)]) await writer.saveBlob(Buffer.from(word))
    expect(writer.stats()).toMatchObject({ newBlobs: 0, knownBlobs: 240 })
    expect(await collect(repository.check())).toEqual([])
    expect(place.warnings).toEqual([])
  })

  it('does not touch index files that the cache holds', async () => {
    await using place = await Place.make()
    let tree = ''
    for (const name of ['a', 'b']) {
      await using repository = await place.open()
      tree = await place.store(repository, words(name, 100))
    }
    await using warm = await place.open()
    expect(await place.read(warm, tree)).toBe(words('b', 100).join(''))
    for (const name of await place.indexFiles()) {
      await rm(join(place.path, 'repo', 'index', name))
      await writeFile(join(place.path, 'repo', 'index', name), 'not an index')
    }
    await using repository = await place.open()
    expect(await place.read(repository, tree)).toBe(words('b', 100).join(''))
    // A check is of the repository, not of the cache.
    expect((await collect(repository.check())).length).toBeGreaterThan(0)
  })

  it('leaves what a commit made many in the cache, so that the next process reads not one index file', async () => {
    await using place = await Place.make()
    let tree = ''
    {
      await using repository = await place.open()
      await place.store(repository, words('few', 5))
      expect(await place.cached('run')).toEqual([])
      tree = await place.store(repository, words('many', 40))
      expect(await place.cached('run')).toHaveLength(1)
      expect(await place.read(repository, tree)).toBe(words('many', 40).join(''))
    }
    for (const name of await place.indexFiles()) await writeFile(join(place.path, 'repo', 'index', name), 'not an index', { mode: 0o600 })
    await using repository = await place.open()
    expect(await place.read(repository, tree)).toBe(words('many', 40).join(''))
    expect(place.warnings).toEqual([])
  })

  it('leaves it to the last of several writers', async () => {
    await using place = await Place.make()
    await using repository = await place.open(500)
    await using other = await repository.beginWrite()
    for (const word of words('other', 30)) await other.saveBlob(Buffer.from(word))
    const tree = await place.store(repository, words('first', 40))
    expect(await place.cached('run')).toEqual([])
    await other.commit({ time: TIME, tree, paths: ['/d'], hostname: 'vm', username: 'u' })
    expect(await place.cached('run')).toHaveLength(1)
    await using writer = await repository.beginWrite()
    for (const word of [...words('other', 30), ...words('first', 40)]) await writer.saveBlob(Buffer.from(word))
    expect(writer.stats().newBlobs).toBe(0)
  })

  it('finds everything while what it writes leaves memory', async () => {
    await using place = await Place.make()
    await using repository = await place.open(25)
    const trees: string[] = []
    for (let round = 0; round < 9; round++) trees.push(await place.store(repository, words(`r${round}`, 20)))
    for (let round = 0; round < 9; round++) expect(await place.read(repository, trees[round] ?? '')).toBe(words(`r${round}`, 20).join(''))
    await using writer = await repository.beginWrite()
    for (let round = 0; round < 9; round++) for (const word of words(`r${round}`, 20)) await writer.saveBlob(Buffer.from(word))
    expect(writer.stats().newBlobs).toBe(0)
    const runs = await place.cached('run')
    expect(runs.length).toBeGreaterThan(0)
    expect(runs.length).toBeLessThanOrEqual(13)
  })

  it('notices damage wherever it is met, reads those index files again, and never answers wrongly', async () => {
    await using place = await Place.make()
    let tree = ''
    {
      await using repository = await place.open()
      tree = await place.store(repository, words('a', 200))
    }
    const damage = async (): Promise<void> => {
      for (const run of await place.cached('run')) {
        await using file = await open(run, 'r+')
        const { size } = await stat(run)
        // All but the last page, which is looked at when it is opened.
        await file.write(randomBytes(size - 4096), 0, size - 4096, 0)
      }
    }
    for (const use of ['read', 'write'] as const) {
      await (await place.open().then(async (each) => (await place.read(each, tree), each)))[Symbol.asyncDispose]()
      expect(await place.cached('run')).toHaveLength(1)
      await using repository = await place.open()
      if (use === 'write') {
        await using writer = await repository.beginWrite()
        await damage()
        for (const word of words('a', 200)) await writer.saveBlob(Buffer.from(word))
        expect(writer.stats().newBlobs).toBe(0)
      } else {
        await damage()
        expect(await place.read(repository, tree)).toBe(words('a', 200).join(''))
      }
      expect(place.warnings.splice(0)).toHaveLength(1)
    }
  })

  it('drops what a prune took away, and keeps nothing of it', async () => {
    await using place = await Place.make()
    {
      await using repository = await place.open()
      await place.store(repository, words('a', 100))
    }
    await using reader = await place.open()
    // Loads the index, and opens no pack: one that is open can be read to its end whoever removes it.
    await expect(reader.blobs.read(Buffer.from(hash('sha256', 'never stored'), 'hex'))).rejects.toMatchObject({ code: 'INTEGRITY' })
    expect(await place.cached('run')).toHaveLength(1)
    // As a prune does that found nothing used: the index files go, then the packs.
    for (const name of await place.indexFiles()) await rm(join(place.path, 'repo', 'index', name))
    await rm(join(place.path, 'repo', 'data'), { recursive: true })
    await expect(reader.blobs.read(Buffer.from(hash('sha256', 'a 6;'), 'hex'))).rejects.toMatchObject({ code: 'INTEGRITY' })
    await using repository = await place.open()
    const tree = await place.store(repository, words('a', 100))
    expect(await place.read(repository, tree)).toBe(words('a', 100).join(''))
    expect(await collect(repository.check({ readData: true }))).toEqual([])
  })

  it('goes on in memory where the cache cannot be written', async () => {
    await using place = await Place.make()
    await writeFile(join(place.path, 'cache'), 'no directory')
    await using repository = await place.open()
    const tree = await place.store(repository, words('a', 100))
    expect(await place.read(repository, tree)).toBe(words('a', 100).join(''))
    await using second = await place.open()
    expect(await place.read(second, tree)).toBe(words('a', 100).join(''))
    expect(place.warnings.length).toBeGreaterThan(0)
  })

  it('leaves a repository that is read in a moment without one', async () => {
    await using place = await Place.make()
    await using repository = await place.open()
    await place.store(repository, words('a', 10))
    await using second = await place.open()
    await second.blobs.read(Buffer.from(hash('sha256', 'a 5;'), 'hex'))
    expect(await place.cached('set')).toEqual([])
  })

  it('is shared by processes that read and write at once', async () => {
    await using place = await Place.make()
    const trees: string[] = []
    const open = await Promise.all([place.open(), place.open(), place.open()])
    try {
      for (let round = 0; round < 3; round++) {
        const stored = await Promise.all(open.map((repository, who) => place.store(repository, words(`${who} ${round}`, 30))))
        trees.push(...stored)
        for (const repository of open)
          for (const tree of trees) expect((await place.read(repository, tree)).startsWith(`${trees.indexOf(tree) % 3} `)).toBe(true)
      }
    } finally {
      for (const repository of open) await repository[Symbol.asyncDispose]()
    }
    await using after = await place.open()
    for (const tree of trees) expect((await place.read(after, tree)).startsWith(`${trees.indexOf(tree) % 3} `)).toBe(true)
    expect(place.warnings).toEqual([])
    expect(await place.cached('set')).toHaveLength(1)
  })
})

async function collect<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const each of from) all.push(each)
  return all
}
