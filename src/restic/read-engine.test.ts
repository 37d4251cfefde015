import { hash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentError, isZero } from '../core/index.ts'
import type { Backend, LoadOptions } from './backend.ts'
import type { BlobToOpen } from './packed-blob.ts'
import { ReadEngine } from './read-engine.ts'
import { SealThreads } from './seal-threads.ts'
import { seal, type SealKey, sealKeyFrom } from './sealing.ts'
import { zstdCodec } from './zstd-codec.ts'

const BLOCK = 64 * 1024
const key: SealKey = sealKeyFrom(randomBytes(64))

/** One pack in memory; `own`: answers in memory of its own, as servers' clients do. */
class OnePack implements Backend {
  readonly url = 'memory'
  readonly ranges: { readonly offset: number; readonly length: number }[] = []
  readonly #bytes: Buffer
  readonly #own: boolean

  constructor(bytes: Buffer, own: boolean) {
    this.#bytes = bytes
    this.#own = own
  }

  async load(_file: unknown, { range, into }: LoadOptions = {}): Promise<Buffer> {
    if (range === undefined) throw new AgentError('INTERNAL', 'only ranges')
    this.ranges.push(range)
    const part = this.#bytes.subarray(range.offset, range.offset + range.length)
    if (part.length < range.length) throw new AgentError('INTEGRITY', 'the pack ends before')
    if (this.#own || into === undefined) return Buffer.from(part)
    into.set(part)
    return into.subarray(0, part.length)
  }

  save = (): Promise<void> => Promise.reject(new AgentError('INTERNAL', 'read only'))
  stat = (): Promise<undefined> => Promise.resolve(undefined)
  remove = (): Promise<void> => Promise.resolve()
  async *list(): AsyncGenerator<never> {
    // Nothing is asked for by name here.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Memory only.
  }
}

type Made = { readonly pack: Buffer; readonly blobs: (BlobToOpen & { readonly plain: Buffer })[] }

/** A pack of blobs with `gap` foreign bytes between them. */
function makePack(plains: readonly Buffer[], gaps: readonly number[]): Made {
  const codec = zstdCodec(1, 'zlib')
  const parts: Buffer[] = []
  const blobs: Made['blobs'] = []
  let offset = 0
  for (const [index, plain] of plains.entries()) {
    const gap = Buffer.alloc(gaps[index] ?? 0, 0xa5)
    const target = Buffer.alloc(plain.length * 2 + 1024)
    const compressed = codec.compress(plain, target)
    const sealed = seal(key, randomBytes(16), compressed === undefined ? plain : target.subarray(0, compressed))
    parts.push(gap, sealed)
    offset += gap.length
    const uncompressedLength = compressed === undefined ? 0 : plain.length
    blobs.push({
      id: hash('sha256', plain, 'buffer'),
      offset,
      length: sealed.length,
      uncompressedLength,
      into: Buffer.alloc(plain.length),
      plain,
    })
    offset += sealed.length
  }
  return { pack: Buffer.concat(parts), blobs }
}

/** An engine and its threads. */
class Opener implements AsyncDisposable {
  readonly #threads: SealThreads
  readonly #engine: ReadEngine

  constructor(backend: Backend, codec: 'auto' | 'zlib') {
    this.#threads = new SealThreads(2, codec)
    this.#threads.unlock(key)
    this.#engine = new ReadEngine({ backend, threads: this.#threads, workers: 2, blockSize: BLOCK })
  }

  open(...args: Parameters<ReadEngine['open']>): ReturnType<ReadEngine['open']> {
    return this.#engine.open(...args)
  }

  write(...args: Parameters<ReadEngine['write']>): ReturnType<ReadEngine['write']> {
    return this.#engine.write(...args)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine[Symbol.asyncDispose]()
    await this.#threads[Symbol.asyncDispose]()
  }
}

const engineOf = (backend: Backend, codec: 'auto' | 'zlib' = 'auto'): Opener => new Opener(backend, codec)

const text = (length: number, seed: number): Buffer => Buffer.alloc(length, `line ${seed} of a log\n`)

describe('the engine that reads many blobs', () => {
  it('gives back what went in, compressed or not, by either codec and any backend', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ length: fc.integer({ min: 1, max: BLOCK }), random: fc.boolean(), gap: fc.constantFrom(0, 0, 7, 100_000) }), {
          minLength: 1,
          maxLength: 12,
        }),
        fc.boolean(),
        fc.constantFrom('auto' as const, 'zlib' as const),
        async (wanted, own, codec) => {
          const plains = wanted.map(({ length, random }, index) => (random ? randomBytes(length) : text(length, index)))
          const { pack, blobs } = makePack(
            plains,
            wanted.map(({ gap }) => gap),
          )
          await using engine = engineOf(new OnePack(pack, own), codec)
          expect(await engine.open('p', blobs)).toEqual([])
          for (const { into, plain } of blobs) expect(Buffer.compare(into, plain)).toBe(0)
        },
      ),
      { seed: 5, numRuns: 10 },
    )
  })

  it('opens into memory shared with its threads', async () => {
    const plains = [0, 1, 2, 3].map((seed) => (seed % 2 === 0 ? randomBytes(30_000) : text(20_000 + seed, seed)))
    const { pack, blobs } = makePack(plains, [0, 0, 100_000])
    const memory = new SharedArrayBuffer(200_000)
    let at = 77
    const shared = blobs.map((blob) => {
      const into = Buffer.from(memory, at, blob.plain.length)
      at += blob.plain.length + 13
      return { ...blob, into }
    })
    await using engine = engineOf(new OnePack(pack, false))
    expect(await engine.open('p', shared)).toEqual([])
    for (const { into, plain } of shared) expect(into.equals(plain)).toBe(true)
  })

  it('writes to a file, pages of zeros left out, and nothing that is not sound', async () => {
    const sparse = randomBytes(40_000).fill(0, 5000, 20_000)
    const plains = [randomBytes(30_000), sparse, Buffer.alloc(BLOCK), text(BLOCK, 3), text(100, 4)]
    const { pack, blobs } = makePack(plains, [0, 0, 0, 100_000])
    const path = join(mkdtempSync(join(tmpdir(), 'vcb-engine-')), 'disk')
    await using file = await open(path, 'wx+')
    const places = [5 * 2 ** 30, 4096, 10 * BLOCK, 20 * BLOCK, 30 * BLOCK]
    const wanted = blobs.map((blob, index) => ({ ...blob, at: places[index] ?? 0 }))
    await using engine = engineOf(new OnePack(pack, false))
    // Of the second block the pages from 8192 to 16383, counted from its beginning, are zero.
    expect(await engine.write('p', wanted, file.fd)).toBe(30_000 + (40_000 - 8192) + 0 + BLOCK + 100)
    for (const { at, plain } of wanted) {
      const read = Buffer.alloc(plain.length)
      await file.read(read, 0, plain.length, at)
      expect(read.equals(plain)).toBe(true)
    }
    const [first, second] = wanted
    if (first === undefined || second === undefined) throw new Error('five were made')
    const wrong = { ...second, id: hash('sha256', 'another', 'buffer'), at: 40 * BLOCK }
    expect(await engine.write('p', [{ ...first, at: 50 * BLOCK }, wrong], file.fd)).toBeUndefined()
    const untouched = Buffer.alloc(plains[1]?.length ?? 0, 1)
    await file.read(untouched, 0, untouched.length, wrong.at)
    expect(isZero(untouched)).toBe(true)
    rmSync(dirname(path), { recursive: true })
  })

  it('tells what the system says of a file that cannot be written, and goes on', async () => {
    const { pack, blobs } = makePack([text(5000, 1), text(6000, 2)], [])
    const wanted = blobs.map((blob, index) => ({ ...blob, at: index * BLOCK }))
    await using engine = engineOf(new OnePack(pack, false))
    await using full = await open('/dev/full', 'r+')
    for (let turn = 0; turn < 20; turn++) await expect(engine.write('p', wanted, full.fd)).rejects.toMatchObject({ code: 'ENOSPC' })
    expect(await engine.open('p', blobs)).toEqual([])
  })

  it('reads neighbours in one go, and what fills a slot though nothing of it could be compressed', async () => {
    const { pack, blobs } = makePack(
      [0, 1, 2, 3].map(() => randomBytes(BLOCK / 4)),
      [],
    )
    const backend = new OnePack(pack, false)
    await using engine = engineOf(backend)
    expect(await engine.open('p', blobs)).toEqual([])
    expect(backend.ranges).toEqual([{ offset: 0, length: pack.length }])
  })

  it('opens what waits beside it with it, each into its own memory, but not what may end before', async () => {
    const plains = Array.from({ length: 24 }, (_, index) => (index % 3 === 0 ? randomBytes(BLOCK) : text(BLOCK, index)))
    const { pack, blobs } = makePack(plains, [])
    const backend = new OnePack(pack, false)
    await using engine = engineOf(backend)
    const [one, other] = [new AbortController(), new AbortController()]
    const targets = blobs.map((blob, index) => ({
      ...blob,
      into: index % 2 === 0 ? Buffer.alloc(BLOCK) : Buffer.from(new SharedArrayBuffer(BLOCK + index), index),
    }))
    const opened = targets.map((blob, index) => engine.open('pack', [blob], { signal: index < 16 ? one.signal : other.signal }))
    // Those that wait, not those that are being read.
    other.abort()
    const ended = await Promise.allSettled(opened)
    expect(ended.slice(0, 16)).toEqual(Array.from({ length: 16 }, () => ({ status: 'fulfilled', value: [] })))
    expect(ended.slice(16).map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 'rejected'))
    for (const { plain, into } of targets.slice(0, 16)) expect(Buffer.compare(into, plain)).toBe(0)
    const blobsOf = ({ offset, length }: { readonly offset: number; readonly length: number }): number =>
      blobs.filter((blob) => blob.offset >= offset && blob.offset + blob.length <= offset + length).length
    expect(backend.ranges.reduce((sum, range) => sum + blobsOf(range), 0)).toBe(16)
    expect(Math.max(...backend.ranges.map(blobsOf))).toBe(4)
    expect(await engine.open('pack', [{ ...blobs[20], into: Buffer.alloc(BLOCK) } as BlobToOpen])).toEqual([])
  })

  it('does not read what lies far between them', async () => {
    const { pack, blobs } = makePack([text(1000, 1), text(1000, 2)], [0, 200_000])
    const backend = new OnePack(pack, false)
    await using engine = engineOf(backend)
    expect(await engine.open('p', blobs)).toEqual([])
    expect(backend.ranges).toHaveLength(2)
  })

  it('names those that are not what their ids say, and only those', async () => {
    const { pack, blobs } = makePack(
      [0, 1, 2, 3, 4].map((seed) => text(5000, seed)),
      [],
    )
    const [mac, , id, length, frame] = blobs
    if (mac === undefined || id === undefined || length === undefined || frame === undefined) throw new Error('five were made')
    pack[mac.offset + 20] = (pack[mac.offset + 20] ?? 0) ^ 1
    const wrong = [
      { ...id, id: hash('sha256', 'another', 'buffer') },
      { ...length, uncompressedLength: 5001, into: Buffer.alloc(5001) },
      { ...frame, uncompressedLength: 0 },
    ]
    const asked = [mac, blobs[1] as BlobToOpen, ...wrong]
    await using engine = engineOf(new OnePack(pack, false))
    const failed = await engine.open('p', asked)
    expect(new Set(failed)).toEqual(new Set([mac, ...wrong]))
    expect(Buffer.compare(blobs[1]?.into ?? Buffer.alloc(0), blobs[1]?.plain ?? Buffer.alloc(1))).toBe(0)
  })

  it('passes on what the backend says, gives its slots back, and does not keep the process waiting', async () => {
    const { pack, blobs } = makePack([text(5000, 1)], [])
    const backend = new OnePack(pack.subarray(0, pack.length - 1), false)
    await using engine = engineOf(backend)
    for (let turn = 0; turn < 20; turn++) await expect(engine.open('p', blobs)).rejects.toMatchObject({ code: 'INTEGRITY' })
    const signal = AbortSignal.abort(new AgentError('CANCELED', 'enough'))
    await expect(engine.open('p', blobs, { signal })).rejects.toMatchObject({ code: 'CANCELED' })
  })
})
