import { spawnSync } from 'node:child_process'
import { hash, randomBytes } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, Secret, silentLog, systemClock } from '../core/index.ts'
import type { Backend, FileRef } from './backend.ts'
import { directoryBackend } from './directory-backend.ts'
import { BlobIds } from './ids.ts'
import { initRepository, openRepository } from './open-repository.ts'
import type { Repository, RepositoryOptions, RepositoryWriter } from './repository.ts'
import { SealPool } from './seal-pool.ts'
import { SealThreads } from './seal-threads.ts'
import { slotBytes } from './seal-tasks.ts'
import { sealKeyFrom } from './sealing.ts'
import type { Snapshot } from './snapshot.ts'
import { zeroBlockId } from './zero-block.ts'
import { fastDirectory } from '../../test/fast-directory.ts'

const TIME = '2026-11-22T10:00:00Z'
const deps = { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'test-host', username: 'u', pid: process.pid }
const snapshotOf = (tree: string): Snapshot => ({ time: TIME, tree, paths: ['/d'], hostname: 'vm', username: 'u' })
const BLOCK = 64 * 1024

/** A backend whose saves can be held up or made to fail. */
class FaultyBackend implements Backend {
  readonly url: string
  readonly #inner: Backend
  onSave: (file: FileRef) => Promise<void> | void = () => undefined

  constructor(inner: Backend) {
    this.#inner = inner
    this.url = inner.url
  }

  load(...args: Parameters<Backend['load']>): Promise<Buffer> {
    return this.#inner.load(...args)
  }

  async save(...args: Parameters<Backend['save']>): Promise<void> {
    await this.onSave(args[0])
    await this.#inner.save(...args)
  }

  list(...args: Parameters<Backend['list']>): AsyncIterable<{ readonly name: string; readonly size: number }> {
    return this.#inner.list(...args)
  }

  stat(...args: Parameters<Backend['stat']>): Promise<{ readonly size: number } | undefined> {
    return this.#inner.stat(...args)
  }

  remove(...args: Parameters<Backend['remove']>): Promise<void> {
    return this.#inner.remove(...args)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]()
  }
}

class Place implements AsyncDisposable {
  readonly backend: FaultyBackend
  readonly path: string
  #repository: Repository | undefined

  private constructor(path: string) {
    this.path = path
    this.backend = new FaultyBackend(directoryBackend(join(path, 'repo')))
  }

  static async make(options: RepositoryOptions = {}): Promise<Place> {
    const place = new Place(await fastDirectory('vcb-writer-'))
    const kdf = { N: 1024, r: 8, p: 1 }
    place.#repository = await initRepository(place.backend, new Secret('x'), deps, {
      blockSize: BLOCK,
      packSize: 4 << 20,
      workers: 2,
      kdf,
      ...options,
    })
    return place
  }

  get repository(): Repository {
    if (this.#repository === undefined) throw new TypeError('not made')
    return this.#repository
  }

  reopen(options: RepositoryOptions = {}): Promise<Repository> {
    return openRepository(this.backend, new Secret('x'), deps, options)
  }

  async locks(): Promise<number> {
    return (await Array.fromAsync(this.backend.list('lock'))).length
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#repository?.[Symbol.asyncDispose]()
    await rm(this.path, { recursive: true, force: true })
  }
}

async function store(writer: RepositoryWriter, blocks: readonly Uint8Array[]): Promise<BlobIds> {
  const ids = new BlobIds(blocks.length)
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < blocks.length) {
      const index = next++
      const block = blocks[index] ?? Buffer.alloc(0)
      const slot = await writer.blocks.acquire()
      slot.bytes.set(block)
      ids.set(index, (await writer.blocks.submit(slot, block.length)).id)
    }
  }
  await Promise.all(Array.from({ length: writer.blocks.slots }, lane))
  return ids
}

async function commit(writer: RepositoryWriter, ids: BlobIds, size: number): Promise<string> {
  const tree = await writer.saveTree([{ name: 'd', type: 'file', mode: 0o600, mtime: TIME, size, content: ids }])
  return await writer.commit(snapshotOf(tree))
}

async function read(repository: Repository, id: string): Promise<Buffer> {
  const node = await repository.blobs.find((await repository.snapshots.get(id)).tree, ['d'])
  if (node === undefined) throw new TypeError('no file')
  await using file = await repository.blobs.openFile(node)
  const bytes = Buffer.alloc(file.size)
  await file.read(0, bytes)
  return bytes
}

describe('the block pipeline', () => {
  it.each(['auto', 'zlib'] as const)('gives back whatever blocks went in, by codec %s', async (codec) => {
    await using place = await Place.make({ codec })
    const block = fc.oneof(
      fc.integer({ min: 1, max: BLOCK }).map((length) => Buffer.alloc(length)),
      fc.tuple(fc.integer({ min: 1, max: BLOCK }), fc.nat(3)).map(([length, fill]) => Buffer.alloc(length, `fill ${fill} `)),
      fc.uint8Array({ minLength: 1, maxLength: 500 }).map((bytes) => Buffer.from(bytes)),
      fc.integer({ min: 1, max: BLOCK }).map((length) => randomBytes(length)),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(block, { minLength: 1, maxLength: 40 }), async (blocks) => {
        const whole = Buffer.concat(blocks)
        let id: string
        let ids: BlobIds
        {
          await using writer = await place.repository.beginWrite()
          ids = await store(writer, blocks)
          for (const [index, bytes] of blocks.entries()) expect(ids.hex(index)).toBe(hash('sha256', bytes))
          id = await commit(writer, ids, whole.length)
        }
        expect(Buffer.compare(await read(place.repository, id), whole)).toBe(0)
        await using fresh = await place.reopen({ codec: codec === 'zlib' ? 'auto' : 'zlib' })
        expect(Buffer.compare(await read(fresh, id), whole)).toBe(0)
      }),
      { numRuns: 8 },
    )
    expect(await Array.fromAsync(place.repository.check({ readData: true }))).toEqual([])
  })

  it('stores each block once: within a disk, between disks at the same time, and between runs', async () => {
    await using place = await Place.make()
    const blocks = Array.from({ length: 30 }, (_, index) => Buffer.alloc(BLOCK, `block ${index % 6} `))
    await using one = await place.repository.beginWrite()
    await using two = await place.repository.beginWrite()
    const [a, b] = await Promise.all([store(one, blocks), store(two, blocks)])
    expect(one.stats().newBlobs + two.stats().newBlobs).toBe(6)
    expect(one.stats().knownBlobs + two.stats().knownBlobs).toBe(54)
    const first = await commit(one, a, 30 * BLOCK)
    const second = await commit(two, b, 30 * BLOCK)
    await using fresh = await place.reopen({ blockSize: BLOCK })
    await using three = await fresh.beginWrite()
    await store(three, blocks)
    expect(three.stats()).toEqual({ newBlobs: 0, storedBytes: 0, knownBlobs: 30 })
    for (const id of [first, second]) expect(Buffer.compare(await read(fresh, id), Buffer.concat(blocks))).toBe(0)
  })

  it('commits one writer while another goes on storing', async () => {
    await using place = await Place.make()
    await using busy = await place.repository.beginWrite()
    const stop = new AbortController()
    const background = (async () => {
      while (!stop.signal.aborted)
        await store(
          busy,
          Array.from({ length: 40 }, () => randomBytes(BLOCK)),
        )
    })()
    try {
      await using writer = await place.repository.beginWrite()
      const bytes = randomBytes(BLOCK)
      const id = await commit(writer, await store(writer, [bytes]), BLOCK)
      await using fresh = await place.reopen()
      expect(Buffer.compare(await read(fresh, id), bytes)).toBe(0)
    } finally {
      stop.abort()
      await background
    }
  })

  it('knows the zero block without reading and stores it once', async () => {
    await using place = await Place.make()
    await using writer = await place.repository.beginWrite()
    const results = await Promise.all(Array.from({ length: 20 }, () => writer.blocks.zero(BLOCK)))
    const slot = await writer.blocks.acquire()
    slot.bytes.fill(0)
    results.push(await writer.blocks.submit(slot, BLOCK))
    for (const { id, zero } of results) {
      expect(zero).toBe(true)
      expect(Buffer.compare(id, zeroBlockId(BLOCK))).toBe(0)
      expect(Buffer.from(id).toString('hex')).toBe(hash('sha256', Buffer.alloc(BLOCK)))
    }
    expect(results.filter(({ storedBytes }) => storedBytes > 0)).toHaveLength(1)
    const ids = new BlobIds(4)
    for (let index = 0; index < 3; index++) ids.set(index, zeroBlockId(BLOCK))
    ids.set(3, (await writer.saveBlob(randomBytes(BLOCK))).id)
    const id = await commit(writer, ids, 4 * BLOCK)
    const node = await place.repository.blobs.find((await place.repository.snapshots.get(id)).tree, ['d'])
    if (node === undefined) throw new TypeError('no file')
    await using file = await place.repository.blobs.openFile(node)
    expect(await Array.fromAsync(file.extents({ offset: 100, length: 4 * BLOCK - 200 }))).toEqual([
      { offset: 100, length: 3 * BLOCK - 100, kind: 'zero' },
      { offset: 3 * BLOCK, length: BLOCK - 100, kind: 'data' },
    ])
    await expect(file.read(4 * BLOCK - 10, Buffer.alloc(11))).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('opens a file of known blocks without looking them up, and reads the same of it', async () => {
    await using place = await Place.make()
    await using writer = await place.repository.beginWrite()
    const bytes = randomBytes(3 * BLOCK)
    const ids = new BlobIds(3)
    for (const block of [0, 1, 2])
      ids.set(block, (await writer.saveBlob(bytes.subarray(block * BLOCK, (block + 1) * BLOCK - (block === 2 ? 7 : 0)))).id)
    const unknown = ids.copy()
    unknown.set(1, randomBytes(32))
    const { blobs } = place.repository
    const node = { name: 'f', type: 'file', mode: 0o600, mtime: '2026-11-28T10:00:00Z', size: 3 * BLOCK - 7, content: ids } as const
    for (const options of [{}, { blockBytes: BLOCK }]) {
      await using file = await blobs.openFile(node, options)
      const into = Buffer.alloc(2 * BLOCK)
      await file.read(BLOCK - 7, into)
      expect(into.equals(bytes.subarray(BLOCK - 7, 3 * BLOCK - 7))).toBe(true)
    }
    await expect(blobs.openFile(node, { blockBytes: BLOCK / 2 })).rejects.toMatchObject({ code: 'INTEGRITY' })
    await expect(blobs.openFile({ ...node, content: unknown })).rejects.toMatchObject({ code: 'INTEGRITY' })
    await using lacking = await blobs.openFile({ ...node, content: unknown }, { blockBytes: BLOCK })
    await lacking.read(0, Buffer.alloc(BLOCK))
    await expect(lacking.read(BLOCK, Buffer.alloc(10))).rejects.toMatchObject({ code: 'INTEGRITY' })
  })

  it('reads blobs that are still in an open pack', async () => {
    await using place = await Place.make()
    await using writer = await place.repository.beginWrite()
    const bytes = randomBytes(1000)
    const { id } = await writer.saveBlob(bytes)
    expect(Buffer.compare(await place.repository.blobs.read(id), bytes)).toBe(0)
  })

  it('makes the caller wait while all slots are taken, in order, and lets go on abort', async () => {
    await using place = await Place.make()
    await using writer = await place.repository.beginWrite()
    const held = await Promise.all(Array.from({ length: writer.blocks.slots }, () => writer.blocks.acquire()))
    const order: number[] = []
    const controller = new AbortController()
    const aborted = writer.blocks.acquire({ signal: controller.signal })
    const first = writer.blocks.acquire().then((slot) => (order.push(1), slot))
    const second = writer.blocks.acquire().then((slot) => (order.push(2), slot))
    await systemClock.sleep(20)
    expect(order).toEqual([])
    controller.abort()
    await expect(aborted).rejects.toMatchObject({ code: 'CANCELED' })
    held[0]?.release()
    held[0]?.release()
    const one = await first
    await systemClock.sleep(20)
    expect(order).toEqual([1])
    await expect(writer.blocks.submit(held[0] ?? one, 10)).rejects.toMatchObject({ code: 'INTERNAL' })
    await writer.blocks.submit(one, BLOCK)
    await second
    expect(order).toEqual([1, 2])
  })

  it('does not let go of a disposed writer’s waiters or slots: others go on', async () => {
    await using place = await Place.make()
    await using other = await place.repository.beginWrite()
    let stuck: Promise<unknown>
    {
      await using writer = await place.repository.beginWrite()
      for (let slot = 0; slot < writer.blocks.slots; slot++) await writer.blocks.acquire()
      stuck = writer.blocks.acquire()
      stuck.catch(() => undefined)
    }
    await expect(stuck).rejects.toMatchObject({ code: 'CANCELED' })
    const blocks = Array.from({ length: 20 }, () => randomBytes(BLOCK))
    const id = await commit(other, await store(other, blocks), 20 * BLOCK)
    expect(Buffer.compare(await read(place.repository, id), Buffer.concat(blocks))).toBe(0)
    expect(await place.locks()).toBe(0)
  })
})

describe('what goes wrong while writing', () => {
  it('disposed before commit: no snapshot, no lock, a sound repository, and the next run writes on', async () => {
    await using place = await Place.make()
    const blocks = Array.from({ length: 200 }, () => randomBytes(BLOCK))
    {
      await using writer = await place.repository.beginWrite()
      await store(writer, blocks)
    }
    expect(await Array.fromAsync(place.repository.snapshots.list())).toEqual([])
    expect(await place.locks()).toBe(0)
    expect(await Array.fromAsync(place.repository.check({ readData: true }))).toEqual([])
    await using writer = await place.repository.beginWrite()
    const ids = await store(writer, blocks)
    // Full packs of the aborted run were kept and indexed, the open one was not.
    expect(writer.stats().knownBlobs).toBeGreaterThan(100)
    expect(writer.stats().newBlobs).toBeGreaterThan(0)
    const id = await commit(writer, ids, 200 * BLOCK)
    await using fresh = await place.reopen()
    expect(Buffer.compare(await read(fresh, id), Buffer.concat(blocks))).toBe(0)
  })

  it('a full repository ends everything with CAPACITY, keeps no snapshot, and recovers once there is room', async () => {
    await using place = await Place.make()
    const blocks = Array.from({ length: 300 }, () => randomBytes(BLOCK))
    let packs = 0
    place.backend.onSave = (file) => {
      if (file.kind === 'data' && ++packs > 1) throw new AgentError('CAPACITY', 'No space is left.')
    }
    {
      await using writer = await place.repository.beginWrite()
      await using other = await place.repository.beginWrite()
      await expect(store(writer, blocks)).rejects.toMatchObject({ code: 'CAPACITY' })
      expect(writer.signal.reason).toMatchObject({ code: 'CAPACITY' })
      await expect(other.blocks.acquire()).rejects.toMatchObject({ code: 'CAPACITY' })
      await expect(writer.commit(snapshotOf('ab'.repeat(32)))).rejects.toMatchObject({ code: 'CAPACITY' })
      await expect(place.repository.beginWrite()).rejects.toMatchObject({ code: 'CAPACITY' })
    }
    expect(await place.locks()).toBe(0)
    place.backend.onSave = () => undefined
    expect(await Array.fromAsync(place.repository.check({ readData: true }))).toEqual([])
    await using writer = await place.repository.beginWrite()
    const id = await commit(writer, await store(writer, blocks), 300 * BLOCK)
    expect(Buffer.compare(await read(place.repository, id), Buffer.concat(blocks))).toBe(0)
  })

  it.each(['index', 'snapshot'] as const)('a failing %s file fails the commit alone', async (kind) => {
    await using place = await Place.make()
    const blocks = [randomBytes(BLOCK)]
    place.backend.onSave = (file) => {
      if (file.kind === kind) throw new AgentError('UNAVAILABLE', 'The server is gone.')
    }
    {
      await using writer = await place.repository.beginWrite()
      await expect(commit(writer, await store(writer, blocks), BLOCK)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    }
    place.backend.onSave = () => undefined
    expect(await Array.fromAsync(place.repository.snapshots.list())).toEqual([])
    expect(await place.locks()).toBe(0)
    await using writer = await place.repository.beginWrite()
    const id = await commit(writer, await store(writer, blocks), BLOCK)
    await using fresh = await place.reopen()
    expect(Buffer.compare(await read(fresh, id), Buffer.concat(blocks))).toBe(0)
  })

  it('writes packs before the index and the index before the snapshot', async () => {
    await using place = await Place.make()
    const saved: string[] = []
    const under = new Set<FileRef>()
    place.backend.onSave = async (file) => {
      if (file.kind === 'index' || file.kind === 'snapshot') expect([...under].map(({ kind }) => kind)).not.toContain('data')
      under.add(file)
      saved.push(file.kind)
      await systemClock.sleep(10)
      under.delete(file)
    }
    await using writer = await place.repository.beginWrite()
    const blocks = Array.from({ length: 150 }, () => randomBytes(BLOCK))
    await commit(writer, await store(writer, blocks), 150 * BLOCK)
    expect(saved).toEqual(['lock', 'data', 'data', 'data', 'data', 'index', 'snapshot'])
  })

  it('threads of a writer that nobody closed do not keep the process alive', async () => {
    await using place = await Place.make()
    const url = (file: string): string => JSON.stringify(new URL(file, import.meta.url).href)
    const script = `
      import { openRepository, directoryBackend } from ${url('./index.ts')}
      import { Secret, silentLog, systemClock } from ${url('../core/index.ts')}
      import { randomBytes } from 'node:crypto'
      const deps = { clock: systemClock, log: silentLog, random: randomBytes, hostname: 'h', username: 'u', pid: process.pid }
      const repository = await openRepository(directoryBackend(${JSON.stringify(place.backend.url)}), new Secret('x'), deps)
      const writer = await repository.beginWrite()
      const slot = await writer.blocks.acquire()
      await writer.blocks.submit(slot, slot.bytes.fill(3).length)
      console.log('done')`
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 30_000,
    })
    expect({ stdout, status }, stderr).toEqual({ stdout: 'done\n', status: 0 })
  })

  it('threads serve one engine after the other, and memory goes on only when nobody works in it', async () => {
    await using place = await Place.make()
    let started = 0
    const count = (): void => void started++
    subscribe('worker_threads', count)
    try {
      const blocks = Array.from({ length: 40 }, (_, index) => Buffer.alloc(BLOCK, index + 1))
      for (const turn of [0, 1, 2]) {
        await using writer = await place.repository.beginWrite()
        await commit(writer, await store(writer, [blocks[turn] ?? Buffer.alloc(0)]), BLOCK)
      }
      expect(started).toBe(2)
      let late: Uint8Array = new Uint8Array()
      {
        await using writer = await place.repository.beginWrite()
        const slots = await Promise.all(Array.from({ length: writer.blocks.slots }, () => writer.blocks.acquire()))
        late = slots[0]?.bytes ?? late
        // Nobody waits for what is on its way.
        for (const [index, slot] of slots.entries()) {
          slot.bytes.set(randomBytes(BLOCK))
          if (index > 0) writer.blocks.submit(slot, BLOCK).catch(() => undefined)
        }
      }
      await using writer = await place.repository.beginWrite()
      const first = await writer.blocks.acquire()
      expect(first.bytes.buffer).not.toBe(late.buffer)
      first.release()
      // Whoever still fills a slot of the ended writer harms nobody.
      late.fill(1)
      const id = await commit(writer, await store(writer, blocks), 40 * BLOCK)
      expect(started).toBe(2)
      await using fresh = await place.reopen()
      expect(Buffer.compare(await read(fresh, id), Buffer.concat(blocks))).toBe(0)
    } finally {
      unsubscribe('worker_threads', count)
    }
  })

  it('a canceled commit leaves no snapshot', async () => {
    await using place = await Place.make()
    await using writer = await place.repository.beginWrite()
    const tree = await writer.saveTree([])
    await expect(writer.commit(snapshotOf(tree), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELED' })
    expect(await Array.fromAsync(place.repository.snapshots.list())).toEqual([])
  })

  it('a worker that dies is an error for everybody, at once and later, not a hang', async () => {
    const failures: AgentError[] = []
    const slots = [new SharedArrayBuffer(slotBytes(4096))]
    await using threads = new SealThreads(1, 'auto')
    const memory = { slots, packs: [new SharedArrayBuffer(4096)], blockSize: 4096 }
    await using pool = new SealPool(threads.start(), memory, (error) => failures.push(error))
    await using other = new SealPool(threads.start(), memory, (error) => failures.push(error))
    const first = pool.digest([{ buffer: 99, length: 10 }])
    const second = pool.hash(0, [4096], [0])
    await expect(first).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('worker thread') })
    await expect(second).rejects.toMatchObject({ code: 'INTERNAL' })
    await expect(pool.seal(0, [10], [0], 1)).rejects.toMatchObject({ code: 'INTERNAL' })
    await expect(other.hash(0, [10], [0])).rejects.toMatchObject({ code: 'INTERNAL' })
    expect(failures).toHaveLength(2)
    // Whoever comes next finds threads that work.
    threads.unlock(sealKeyFrom(randomBytes(64)))
    await using next = new SealPool(threads.start(), memory, (error) => failures.push(error))
    expect(await next.hash(0, [10], [0])).toEqual([Uint8Array.from(hash('sha256', Buffer.alloc(10), 'buffer'))])
    expect(await next.seal(0, [10], [0], 1)).toMatchObject([{ uncompressedLength: 0 }])
  })

  it('the death of a thread ends the tasks of the others only when they have stopped writing', async () => {
    const large = 8 << 20
    const memory = { slots: [new SharedArrayBuffer(slotBytes(large))], packs: [], blockSize: large }
    await using threads = new SealThreads(2, 'auto')
    threads.unlock(sealKeyFrom(randomBytes(64)))
    await using pool = new SealPool(threads.start(), memory, () => undefined)
    // Half a second of one call into zstd, which nothing interrupts.
    for (let at = 0; at < large; at += 16) pool.plain(0).write(`${at * 7919}`, at)
    const sealing = pool.seal(0, [large], [0], 12)
    const dying = pool.digest([{ buffer: 99, length: 10 }])
    await expect(dying).rejects.toMatchObject({ code: 'INTERNAL' })
    await expect(sealing).rejects.toMatchObject({ code: 'INTERNAL' })
    const left = hash('sha256', pool.sealed(0))
    await systemClock.sleep(1000)
    expect(hash('sha256', pool.sealed(0))).toBe(left)
  })

  it('memory that is given back is not touched any more, and its tasks end', async () => {
    await using threads = new SealThreads(2, 'auto')
    const large = 8 << 20
    const memory = { slots: [new SharedArrayBuffer(slotBytes(large))], packs: [new SharedArrayBuffer(large)], blockSize: large }
    await using staying = new SealPool(threads.start(), memory, () => undefined)
    const leaving = new SealPool(threads.start(), memory, () => undefined)
    const tasks = Array.from({ length: 12 }, () => leaving.digest([{ buffer: 0, length: large }]))
    const kept = staying.digest([{ buffer: 0, length: large }])
    const ended = Promise.allSettled(tasks)
    await leaving[Symbol.asyncDispose]()
    const outcomes = (await ended).map(({ status }) => status)
    // What threads had begun came to its end; what waited was refused.
    expect(outcomes.slice(0, 4)).toEqual(Array.from({ length: 4 }, () => 'fulfilled'))
    expect(outcomes.slice(4)).toEqual(Array.from({ length: 8 }, () => 'rejected'))
    await expect(leaving.digest([{ buffer: 0, length: 10 }])).rejects.toMatchObject({ code: 'CANCELED' })
    expect(await kept).toEqual([Uint8Array.from(hash('sha256', Buffer.alloc(large), 'buffer'))])
    const both = await staying.digest([
      { buffer: 0, length: 1000 },
      { buffer: 0, length: large },
    ])
    expect(both).toEqual([1000, large].map((length) => Uint8Array.from(hash('sha256', Buffer.alloc(length), 'buffer'))))
  })

  it('refuses blocks, blobs, settings and uses that cannot be', async () => {
    await using place = await Place.make()
    {
      await using writer = await place.repository.beginWrite()
      const slot = await writer.blocks.acquire()
      for (const length of [0, -1, 1.5, BLOCK + 1])
        await expect(writer.blocks.submit(slot, length)).rejects.toMatchObject({ code: 'INTERNAL' })
      await expect(writer.saveBlob(new Uint8Array(0))).rejects.toMatchObject({ code: 'INTERNAL' })
      await expect(writer.commit(snapshotOf('ab'.repeat(32)))).rejects.toThrow('neither submitted nor released')
      slot.release()
      const tree = await writer.saveTree([])
      await writer.commit(snapshotOf(tree))
      await expect(writer.blocks.acquire()).rejects.toMatchObject({ code: 'INTERNAL' })
      await expect(writer.commit(snapshotOf(tree))).rejects.toMatchObject({ code: 'INTERNAL' })
    }
    for (const options of [{ compression: -1 }, { workers: 0 }, { packSize: 1 }, { blockSize: 9 << 20 }]) {
      await expect(place.reopen(options)).rejects.toMatchObject({ code: 'CONFIG' })
    }
    expect(await readdir(join(place.path, 'repo', 'locks'))).toEqual([])
  })
})

describe('looking up', () => {
  it('finds paths, says undefined for what is not there, and finds snapshots by prefix', async () => {
    await using place = await Place.make()
    await using writer = await place.repository.beginWrite()
    const inner = await writer.saveTree([{ name: 'x', type: 'file', mode: 0o600, mtime: TIME, size: 0 }])
    const tree = await writer.saveTree([
      { name: 'sub', type: 'dir', mode: 0o700, mtime: TIME, subtree: inner },
      { name: 'link', type: 'symlink', mode: 0o777, mtime: TIME, linktarget: 'sub/x' },
    ])
    const id = await writer.commit(snapshotOf(tree))
    const { blobs, snapshots } = place.repository
    expect(await blobs.find(tree, ['sub', 'x'])).toMatchObject({ name: 'x', size: 0 })
    for (const path of [['nothing'], ['sub', 'y'], ['sub', 'x', 'z'], ['link', 'x'], []])
      expect(await blobs.find(tree, path)).toBeUndefined()
    expect((await snapshots.get(id.slice(0, 8))).id).toBe(id)
    await expect(snapshots.get('0'.repeat(64))).rejects.toMatchObject({ code: 'NOT_FOUND' })
    for (const bad of ['abc', 'xyzxyz', '../../x']) await expect(snapshots.get(bad)).rejects.toMatchObject({ code: 'USAGE' })
    await expect(blobs.read(randomBytes(32))).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringContaining('missing') })
    await snapshots.forget([id, '0'.repeat(64)])
    expect(await Array.fromAsync(snapshots.list())).toEqual([])
    await expect(snapshots.forget(['abc'])).rejects.toMatchObject({ code: 'USAGE' })
  })
})
