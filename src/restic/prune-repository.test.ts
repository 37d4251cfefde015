import { hash, randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, Secret, silentLog } from '../core/index.ts'
import { hurriedClock } from '../../test/hurried-clock.ts'
import type { Backend, FileKind, FileRef, LoadOptions } from './backend.ts'
import { BlobIds } from './ids.ts'
import { initRepository, openRepository } from './open-repository.ts'
import type { PruneReport, Repository } from './repository.ts'

const TIME = '2026-11-22T10:00:00Z'
const PASSWORD = new Secret('x')
const deps = { clock: hurriedClock(100), log: silentLog, random: randomBytes, hostname: 'test-host', username: 'u', pid: process.pid }
const OPTIONS = { packSize: 4 << 20, workers: 1, blockSize: 64 * 1024, codec: 'zlib' } as const

/** Files in memory, whose writer can be cut off before or after any of its changes. */
class MemoryBackend implements Backend {
  readonly url = 'memory'
  readonly files: Map<string, Buffer>
  /** Changes made, and from when on nothing answers any more. */
  changes = 0
  cut: { readonly at: number; readonly side: 'before' | 'after' } | undefined
  dead = false
  /** Kinds of files that it does not let go. */
  readonly refuses = new Set<FileKind>()
  lockedUntil?: (file: FileRef) => Promise<Date | undefined>

  constructor(files = new Map<string, Buffer>()) {
    this.files = files
  }

  async load(file: FileRef, { range, into }: LoadOptions = {}): Promise<Buffer> {
    this.#alive()
    const bytes = this.files.get(keyOf(file))
    if (bytes === undefined) throw new AgentError('NOT_FOUND', `${keyOf(file)} does not exist.`)
    const part = range === undefined ? bytes : bytes.subarray(range.offset, range.offset + range.length)
    if (range !== undefined && part.length < range.length) throw new AgentError('INTEGRITY', `${keyOf(file)} is too short.`)
    if (into === undefined || into.length < part.length) return Buffer.from(part)
    into.set(part)
    return into.subarray(0, part.length)
  }

  async save(file: FileRef, data: Uint8Array): Promise<void> {
    this.#change(() => this.files.set(keyOf(file), Buffer.from(data)))
  }

  async *list(kind: FileKind): AsyncGenerator<{ readonly name: string; readonly size: number }> {
    this.#alive()
    for (const [key, bytes] of Array.from(this.files))
      if (key.startsWith(`${kind}/`)) yield { name: key.slice(kind.length + 1), size: bytes.length }
  }

  async stat(file: FileRef): Promise<{ readonly size: number } | undefined> {
    this.#alive()
    const bytes = this.files.get(keyOf(file))
    return bytes === undefined ? undefined : { size: bytes.length }
  }

  async remove(file: FileRef): Promise<void> {
    this.#alive()
    if (this.refuses.has(file.kind)) throw new AgentError('CONFLICT', `${keyOf(file)} is kept.`)
    this.#change(() => this.files.delete(keyOf(file)))
  }

  bytes(kind: FileKind): number {
    return [...this.files].reduce((sum, [key, { length }]) => sum + (key.startsWith(`${kind}/`) ? length : 0), 0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is open.
  }

  #change(work: () => void): void {
    this.#alive()
    const now = ++this.changes === this.cut?.at
    if (now && this.cut?.side === 'before') this.dead = true
    else work()
    if (now) this.dead = true
    this.#alive()
  }

  #alive(): void {
    if (this.dead) throw new AgentError('INTERNAL', 'The process was killed.')
  }
}

const keyOf = ({ kind, name }: FileRef): string => `${kind}/${name}`

type Content = readonly number[]

/** A block that does not compress, always the same for a number. So small that no worker thread reads it: there are many repositories here. */
function blockOf(number: number): Buffer {
  const parts = Array.from({ length: 128 + (number % 7) * 10 }, (_, part) => hash('sha256', `${number} ${part}`, 'buffer'))
  return Buffer.concat(parts)
}
const blocks = new Map<number, Buffer>()
const block = (number: number): Buffer => {
  const known = blocks.get(number) ?? blockOf(number)
  blocks.set(number, known)
  return known
}

/** One snapshot of a file of these blocks, below a directory. */
async function save(repository: Repository, content: Content): Promise<string> {
  await using writer = await repository.beginWrite()
  const ids = new BlobIds(content.length)
  let size = 0
  for (const [index, number] of content.entries()) {
    ids.set(index, (await writer.saveBlob(block(number))).id)
    size += block(number).length
  }
  const inner = await writer.saveTree([{ name: 'd', type: 'file', mode: 0o600, mtime: TIME, size, content: ids }])
  const tree = await writer.saveTree([{ name: 'in', type: 'dir', mode: 0o700, mtime: TIME, subtree: inner }])
  return await writer.commit({ time: TIME, tree, paths: ['/in'], hostname: 'vm', username: 'u' })
}

async function read(repository: Repository, id: string): Promise<Buffer> {
  const node = await repository.blobs.find((await repository.snapshots.get(id)).tree, ['in', 'd'])
  if (node === undefined) throw new TypeError('no file')
  await using file = await repository.blobs.openFile(node)
  const bytes = Buffer.alloc(file.size)
  await file.read(0, bytes)
  return bytes
}

const plain = (content: Content): Buffer => Buffer.concat(content.map(block))

async function expectWhole(repository: Repository, kept: ReadonlyMap<string, Content>): Promise<void> {
  expect(await Array.fromAsync(repository.check({ readData: true }))).toEqual([])
  expect((await Array.fromAsync(repository.snapshots.list())).map(({ id }) => id).toSorted()).toEqual([...kept.keys()].toSorted())
  for (const [id, content] of kept) expect(Buffer.compare(await read(repository, id), plain(content))).toBe(0)
}

const init = (backend: Backend): Promise<Repository> => initRepository(backend, PASSWORD, deps, { ...OPTIONS, kdf: { N: 2, r: 1, p: 1 } })
const open = (backend: Backend): Promise<Repository> => openRepository(backend, PASSWORD, deps, OPTIONS)

type Made = { readonly files: Map<string, Buffer>; readonly kept: ReadonlyMap<string, Content> }

let first: Promise<Made> | undefined

/** Points of which every second is forgotten, so that there are packs unused, partly used, and wholly used; each time the same. */
async function made(): Promise<Made> {
  const { files, kept } = await (first ??= makePoints())
  return { files: new Map(files), kept }
}

async function makePoints(): Promise<Made> {
  const backend = new MemoryBackend()
  await using repository = await init(backend)
  const kept = new Map<string, Content>()
  for (const first of [0, 5, 100, 103, 3]) {
    const content = Array.from({ length: 12 }, (_, number) => first + number)
    kept.set(await save(repository, content), content)
  }
  const forgotten = [...kept.keys()].filter((_id, number) => number % 2 === 0)
  await repository.snapshots.forget(forgotten)
  for (const id of forgotten) kept.delete(id)
  return { files: backend.files, kept }
}

const zero = { mostUnused: { bytes: 0 } } as const

describe('a prune', () => {
  it('loses nothing wherever it is killed, and the next one ends what it began', async () => {
    const { files, kept } = await made()
    const whole = new MemoryBackend(new Map(files))
    await using undisturbed = await open(whole)
    const report = await undisturbed.prune(zero)
    expect(report).toMatchObject({ snapshots: 2, unusedAfterBytes: 0 })
    expect(report.removed.packs).toBeGreaterThan(0)
    expect(report.repacked.packs).toBeGreaterThan(0)
    const { changes } = whole
    expect(changes).toBeGreaterThan(10)
    for (let at = 1; at <= changes; at++) {
      for (const side of ['before', 'after'] as const) {
        const doomed = new MemoryBackend(new Map(files))
        await using killed = await open(doomed)
        doomed.cut = { at, side }
        await expect(killed.prune(zero), `${side} ${at}`).rejects.toThrow()
        // What recovery does, by the names in the journal.
        const after = new MemoryBackend(doomed.files)
        for (const key of after.files.keys()) if (key.startsWith('lock/')) after.files.delete(key)
        await using repository = await open(after)
        await expectWhole(repository, kept)
        const next = await repository.prune(zero)
        expect(next.unusedAfterBytes).toBe(0)
        await expectWhole(repository, kept)
        expect(Math.abs(after.bytes('data') - whole.bytes('data')), `${side} ${at}`).toBeLessThan(2048)
        expect((await repository.prune(zero)).freedBytes).toBe(0)
      }
    }
  })

  it('keeps what snapshots hold, whatever was written, forgotten and pruned before, and stays within the limits', async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ save: fc.array(fc.nat(40), { maxLength: 14 }) }) },
      { weight: 2, arbitrary: fc.record({ forget: fc.nat(20) }) },
      {
        weight: 2,
        arbitrary: fc.record({ prune: fc.integer({ min: 0, max: 60 }), repack: fc.option(fc.nat(200_000), { nil: undefined }) }),
      },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 12 }), async (steps) => {
        const backend = new MemoryBackend()
        await using repository = await init(backend)
        const kept = new Map<string, Content>()
        for (const each of [...steps, { prune: 0, repack: undefined }]) {
          if ('save' in each) kept.set(await save(repository, each.save), each.save)
          else if ('forget' in each) {
            const id = [...kept.keys()][each.forget % Math.max(1, kept.size)]
            if (id !== undefined) await repository.snapshots.forget([id])
            if (id !== undefined) kept.delete(id)
          } else {
            const request = { mostUnused: { percent: each.prune }, mostRepackedBytes: each.repack }
            const planned = await repository.prune({ ...request, dryRun: true })
            const before = backend.bytes('data')
            const done: PruneReport = await repository.prune(request)
            expect(done).toEqual(planned)
            expect(Math.abs(before - backend.bytes('data') - done.freedBytes)).toBeLessThan(1024)
            const share = done.unusedAfterBytes / Math.max(1, done.usedBytes + done.unusedAfterBytes)
            if (each.repack === undefined) expect(share).toBeLessThanOrEqual(each.prune / 100 + 1e-9)
            await expectWhole(repository, kept)
          }
        }
        await using another = await open(new MemoryBackend(backend.files))
        await expectWhole(another, kept)
      }),
      { numRuns: 5, seed: 11 },
    )
  })

  it('is not begun beside a writer or a reader, and lets none begin', async () => {
    const { files } = await made()
    const backend = new MemoryBackend(files)
    await using repository = await open(backend)
    await using other = await open(new MemoryBackend(files))
    {
      await using _writer = await other.beginWrite()
      await expect(repository.prune()).rejects.toMatchObject({ code: 'CONFLICT' })
      // What would be done can be asked for beside it.
      await expect(repository.prune({ dryRun: true })).resolves.toMatchObject({ snapshots: 2 })
    }
    {
      await using _lease = await other.beginRead()
      await expect(repository.prune()).rejects.toMatchObject({ code: 'CONFLICT' })
    }
    const tried: unknown[] = []
    const onProgress = (): void => void tried.push(other.beginWrite().catch((error: unknown) => error))
    await repository.prune({ ...zero, onProgress })
    expect(tried.length).toBeGreaterThan(0)
    for (const each of await Promise.all(tried)) expect(each).toMatchObject({ code: 'CONFLICT' })
  })

  it('is seen by who had the repository open before: it writes on, and what it writes is whole', async () => {
    const { files, kept } = await made()
    await using repository = await open(new MemoryBackend(files))
    await using other = await open(new MemoryBackend(files))
    const contents = new Map(kept)
    const first = [0, 1, 2, 200]
    contents.set(await save(other, first), first)
    await repository.snapshots.forget([...contents.keys()].slice(-1))
    contents.delete([...contents.keys()].at(-1) ?? '')
    await repository.prune(zero)
    // Blocks that the pruned packs held, as the other one still believes.
    const second = [0, 1, 2, 200, 14, 15, 7]
    contents.set(await save(other, second), second)
    await expectWhole(repository, contents)
    await expectWhole(other, contents)
  })

  it('does not begin where nothing may be removed, and writes nothing there', async () => {
    const { files } = await made()
    const backend = new MemoryBackend(files)
    await using repository = await open(backend)
    const before = backend.bytes('data')
    for (const kind of ['data', 'index', 'snapshot'] as const) backend.refuses.add(kind)
    await expect(repository.prune(zero)).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('does not let anything be removed, so its space cannot be freed from here'),
    })
    expect(backend.bytes('data')).toBe(before)
    expect(await Array.fromAsync(backend.list('lock'))).toEqual([])
  })

  it('leaves what the server keeps until later, tells it, and frees it then', async () => {
    const { files, kept } = await made()
    const backend = new MemoryBackend(files)
    const until = new Date('2026-12-31T00:00:00Z')
    const locked = new Set(['index', 'data'].flatMap((kind) => [...files.keys()].filter((key) => key.startsWith(`${kind}/`)).slice(0, 2)))
    backend.lockedUntil = async (file) => (locked.has(keyOf(file)) ? until : undefined)
    await using repository = await open(backend)
    const planned = await repository.prune({ ...zero, dryRun: true })
    const done = await repository.prune(zero)
    expect(done).toEqual(planned)
    expect(done.kept).toMatchObject({ until: until.toISOString() })
    expect(done.kept.packs).toBeGreaterThan(0)
    for (const key of locked) expect(files.has(key)).toBe(true)
    await expectWhole(repository, kept)
    locked.clear()
    expect(await repository.prune(zero)).toMatchObject({ unusedAfterBytes: 0, kept: { packs: 0, bytes: 0 } })
    await expectWhole(repository, kept)
  })

  it('does not remove packs whose index file is refused at the last moment', async () => {
    const { files, kept } = await made()
    const backend = new MemoryBackend(files)
    // A lock that its server sets between the question and the removal.
    backend.lockedUntil = async () => undefined
    backend.refuses.add('index')
    await using repository = await open(backend)
    const done = await repository.prune(zero)
    expect(done.freedBytes).toBeLessThanOrEqual(0)
    expect(done.kept.packs).toBe(done.removed.packs + done.repacked.packs)
    await expectWhole(repository, kept)
  })

  it('takes a damaged blob from its other copy, and removes nothing when there is none', async () => {
    const { files, kept } = await made()
    // A repack that was cut off has left second copies: of each needed blob of the packs that were to go there are two.
    const half = new MemoryBackend(new Map(files))
    await using first = await open(half)
    half.cut = { at: 6, side: 'after' }
    await expect(first.prune(zero)).rejects.toThrow()
    const damage = (from: Map<string, Buffer>, key: string): void => {
      const bytes = Buffer.from(from.get(key) ?? Buffer.alloc(0))
      bytes[100]! ^= 1
      from.set(key, bytes)
    }
    const packs = [...files.keys()].filter((key) => key.startsWith('data/'))
    const outcomes: string[] = []
    for (const key of packs) {
      const backend = new MemoryBackend(new Map(files))
      damage(backend.files, key)
      await using repository = await open(backend)
      const had = backend.bytes('data')
      try {
        await repository.prune(zero)
        outcomes.push('done')
      } catch (error) {
        expect(error).toMatchObject({
          code: 'INTEGRITY',
          message: expect.stringContaining('Nothing was removed, because the repository is damaged'),
        })
        expect(backend.bytes('data')).toBeGreaterThanOrEqual(had)
        outcomes.push('refused')
      }
    }
    expect(new Set(outcomes)).toEqual(new Set(['done', 'refused']))
    expect(kept.size).toBe(2)
  })

  it('stops when the lock is taken from it, and when somebody writes without one', async () => {
    const { files, kept } = await made()
    const backend = new MemoryBackend(new Map(files))
    await using repository = await open(backend)
    const unlock = (): void => {
      for (const key of backend.files.keys()) if (key.startsWith('lock/')) backend.files.delete(key)
    }
    await expect(repository.prune({ ...zero, onProgress: unlock })).rejects.toMatchObject({ code: 'CONFLICT' })
    await expectWhole(repository, kept)

    const second = new MemoryBackend(new Map(files))
    await using other = await open(second)
    // A snapshot that uses what is being removed.
    const intruder = 'f'.repeat(64)
    const write = (): void => void second.files.set(`snapshot/${intruder}`, Buffer.from('anything'))
    await expect(other.prune({ ...zero, onProgress: write })).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(`was written to while it was pruned: the snapshot ${intruder} is new`),
    })
    second.files.delete(`snapshot/${intruder}`)
    await expectWhole(other, kept)
  })
})
