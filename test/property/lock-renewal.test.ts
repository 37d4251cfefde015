import { hash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Clock, AgentError, Secret, silentLog } from '../../src/core/index.ts'
import { openLockEnds } from '../../src/state/index.ts'
import { hurriedClock } from '../hurried-clock.ts'
import type { Backend, FileKind, FileLocks, FileRef, LoadOptions } from '../../src/restic/backend.ts'
import { BlobIds, idBytes } from '../../src/restic/ids.ts'
import { DATA, TREE } from '../../src/restic/blob-records.ts'
import { IndexStore } from '../../src/restic/index-store.ts'
import { openKeyFile } from '../../src/restic/open-key.ts'
import { initRepository, openRepository } from '../../src/restic/open-repository.ts'
import type { Repository } from '../../src/restic/repository.ts'
import { SealedFiles } from '../../src/restic/sealed-files.ts'

const PASSWORD = new Secret('x')
const DAY = 24 * 3_600_000
const BEGIN = Date.parse('2026-11-01T00:00:00Z')

/** Days since the beginning, and a clock that says so. */
class Calendar {
  day = 0
  readonly clock: Clock = { ...hurriedClock(1000), now: () => new Date(BEGIN + this.day * DAY) }
}

type Stored = { readonly bytes: Buffer; until: number | undefined }

/** A bucket in memory that keeps what it is told to, and counts what it is asked. */
class LockedBucket implements Backend {
  readonly url = 'bucket'
  readonly savesAtOnce = 2
  readonly files = new Map<string, Stored>()
  readonly calendar: Calendar
  days: number
  /** Questions for locks, and locks made longer. */
  asked = 0
  lengthened = 0
  /** Calls about locks until all of them fail, and with what. */
  failsIn = Number.POSITIVE_INFINITY
  failure = new AgentError('UNAVAILABLE', 'The line is cut.')

  constructor(calendar: Calendar, days: number) {
    this.calendar = calendar
    this.days = days
  }

  get #now(): number {
    return this.calendar.clock.now().getTime()
  }

  get locks(): FileLocks {
    return {
      forMs: this.days * DAY,
      end: async (file) => {
        this.#call()
        this.asked++
        const { until } = this.#stored(file)
        return until === undefined ? undefined : new Date(until)
      },
      keep: async (file, least, to) => {
        this.#call()
        this.asked++
        const stored = this.#stored(file)
        if (stored.until !== undefined && stored.until >= least.getTime()) return { until: new Date(stored.until), lengthened: false }
        this.#call()
        this.lengthened++
        if (to.getTime() < (stored.until ?? 0)) throw new TypeError(`The lock of ${keyOf(file)} would become shorter.`)
        stored.until = to.getTime()
        return { until: to, lengthened: true }
      },
      hide: async (file) => void this.files.delete(keyOf(file)),
    }
  }

  async load(file: FileRef, { range, into }: LoadOptions = {}): Promise<Buffer> {
    const { bytes } = this.#stored(file)
    const part = range === undefined ? bytes : bytes.subarray(range.offset, range.offset + range.length)
    if (into === undefined || into.length < part.length) return Buffer.from(part)
    into.set(part)
    return into.subarray(0, part.length)
  }

  async save(file: FileRef, data: Uint8Array): Promise<void> {
    this.files.set(keyOf(file), { bytes: Buffer.from(data), until: file.kind === 'lock' ? undefined : this.#now + this.days * DAY })
  }

  async *list(kind: FileKind): AsyncGenerator<{ readonly name: string; readonly size: number }> {
    for (const [key, { bytes }] of Array.from(this.files))
      if (key.startsWith(`${kind}/`)) yield { name: key.slice(kind.length + 1), size: bytes.length }
  }

  async stat(file: FileRef): Promise<{ readonly size: number } | undefined> {
    const stored = this.files.get(keyOf(file))
    return stored === undefined ? undefined : { size: stored.bytes.length }
  }

  async remove(file: FileRef): Promise<void> {
    if ((await this.lockedUntil(file)) !== undefined) throw new AgentError('CONFLICT', `${keyOf(file)} is locked.`)
    this.files.delete(keyOf(file))
  }

  async lockedUntil(file: FileRef): Promise<Date | undefined> {
    const until = this.files.get(keyOf(file))?.until
    return until === undefined || until <= this.#now ? undefined : new Date(until)
  }

  ends(): ReadonlyMap<string, number> {
    return new Map([...this.files].flatMap(([key, { until }]) => (until === undefined ? [] : [[key, until] as const])))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is open.
  }

  #stored(file: FileRef): Stored {
    const stored = this.files.get(keyOf(file))
    if (stored === undefined) throw new AgentError('NOT_FOUND', `There is no ${keyOf(file)}.`)
    return stored
  }

  #call(): void {
    if (--this.failsIn < 0) throw this.failure
  }
}

const keyOf = ({ kind, name }: FileRef): string => `${kind}/${name}`

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-renew-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))
let worlds = 0

class World implements AsyncDisposable {
  readonly calendar = new Calendar()
  readonly bucket: LockedBucket
  readonly cache = join(directory, `cache-${worlds++}`)
  #repository: Repository | undefined

  constructor(days: number) {
    this.bucket = new LockedBucket(this.calendar, days)
  }

  get repository(): Repository {
    return this.#repository ?? expect.fail()
  }

  static async make(days: number): Promise<World> {
    const world = new World(days)
    await using _ = await initRepository(world.bucket, PASSWORD, world.#deps, { ...OPTIONS, kdf: { N: 2, r: 1, p: 1 } })
    await world.restart()
    return world
  }

  get #deps() {
    return { clock: this.calendar.clock, log: silentLog, random: randomBytes, hostname: 'host', username: 'u', pid: process.pid }
  }

  /** The proxy goes on with what is on its disk. */
  async restart(): Promise<void> {
    await this.#repository?.[Symbol.asyncDispose]()
    this.#repository = await openRepository(this.bucket, PASSWORD, this.#deps, {
      ...OPTIONS,
      cacheDirectory: this.cache,
      lockEnds: (into) => openLockEnds({ directory: into, clock: this.calendar.clock, log: silentLog }),
    })
  }

  async loseCache(): Promise<void> {
    await this.#repository?.[Symbol.asyncDispose]()
    this.#repository = undefined
    await rm(this.cache, { recursive: true, force: true })
    await this.restart()
  }

  /** A snapshot of two files: of these blocks, and of those a block of each number ten higher. */
  async save(content: readonly number[], time = this.calendar.clock.now().toISOString()): Promise<string> {
    await using writer = await this.repository.beginWrite()
    const tree = async (blocks: readonly number[]): Promise<string> => {
      const ids = new BlobIds(blocks.length)
      let size = 0
      for (const [index, number] of blocks.entries()) {
        ids.set(index, (await writer.saveBlob(block(number))).id)
        size += block(number).length
      }
      return await writer.saveTree([{ name: 'd', type: 'file', mode: 0o600, mtime: FIXED, size, content: ids }])
    }
    const dir = async (name: string, blocks: readonly number[]) => ({
      name,
      type: 'dir' as const,
      mode: 0o700,
      mtime: FIXED,
      subtree: await tree(blocks),
    })
    const half = Math.ceil(content.length / 2)
    const root = await writer.saveTree([await dir('a', content.slice(0, half)), await dir('b', content.slice(half))])
    return await writer.commit({ time, tree: root, paths: ['/in'], hostname: 'vm', username: 'u' })
  }

  /** Files that a snapshot needs, found another way: the whole index, every tree. */
  async needs(snapshot: string): Promise<ReadonlySet<string>> {
    const key = await openKeyFile(this.bucket, PASSWORD, this.#deps)
    await using store = new IndexStore(new SealedFiles(this.bucket, key.master, randomBytes), silentLog)
    const index = await store.whole()
    const needed = new Set([`snapshot/${snapshot}`])
    for (const name of this.bucket.files.keys()) if (/^(?:config|key|index)\//u.test(name)) needed.add(name)
    const use = (type: typeof DATA | typeof TREE, id: Uint8Array): void => {
      const copies = index.findAll(type, id).map(({ pack }) => `data/${index.packId(pack).toString('hex')}`)
      // One copy is enough: the one that is kept the longest.
      const ends = this.bucket.ends()
      needed.add(copies.toSorted((a, b) => (ends.get(b) ?? 0) - (ends.get(a) ?? 0))[0] ?? expect.fail('no copy'))
    }
    const walk = async (tree: string): Promise<void> => {
      use(TREE, idBytes(tree))
      for (const node of await this.repository.blobs.tree(tree)) {
        for (const id of node.content ?? []) use(DATA, id)
        if (node.subtree !== undefined) await walk(node.subtree)
      }
    }
    await walk((await this.repository.snapshots.get(snapshot)).tree)
    return needed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#repository?.[Symbol.asyncDispose]()
  }
}

const OPTIONS = { packSize: 4 << 20, workers: 1, blockSize: 64 * 1024, codec: 'zlib' } as const
const FIXED = '2026-11-01T00:00:00Z'
const blocks = new Map<number, Buffer>()
const block = (number: number): Buffer => {
  const known = blocks.get(number) ?? Buffer.concat(Array.from({ length: 64 }, (_, part) => hash('sha256', `${number} ${part}`, 'buffer')))
  blocks.set(number, known)
  return known
}

const renew = async ({ repository }: World, options: Parameters<NonNullable<Repository['renewLocks']>>[0] = {}) =>
  (await repository.renewLocks?.(options)) ?? expect.fail('nothing is kept here')

/** What each kept point needs is kept as long as the point; returns the earliest end, in days after that. */
async function expectProtected(world: World, made: ReadonlyMap<string, number>): Promise<void> {
  const { bucket, calendar } = world
  const ends = bucket.ends()
  for (const [id, day] of made) {
    if (day + bucket.days <= calendar.day) continue
    for (const file of await world.needs(id))
      expect((ends.get(file) ?? 0) - BEGIN, `${file} of the point of day ${day}`).toBeGreaterThanOrEqual((day + bucket.days) * DAY)
  }
}

const range = (from: number, count: number): readonly number[] => Array.from({ length: count }, (_, at) => from + at)

describe('a renewal of locks', () => {
  it('protects a young point that is made of old packs, in few requests', async () => {
    await using world = await World.make(10)
    const { bucket, calendar } = world
    const made = new Map<string, number>()
    const perNight: number[] = []
    for (calendar.day = 0; calendar.day < 30; calendar.day++) {
      // Four old packs, and one that is new each night.
      for (const pack of calendar.day === 0 ? range(0, 4) : []) made.set(await world.save(range(pack * 10, 10)), calendar.day)
      made.set(await world.save([...range(0, 40), 1000 + calendar.day]), calendar.day)
      const before = bucket.asked
      const { short } = await renew(world)
      expect(short).toEqual([])
      perNight.push(bucket.asked - before)
      await expectProtected(world, made)
    }
    // All that there is in the end was saved once, and asked for once or twice each ahead of two days; not each night.
    const files = [...bucket.files.keys()].filter((key) => !key.startsWith('lock/')).length
    expect(perNight.reduce((sum, asked) => sum + asked, 0)).toBeLessThan(files * 30 * 0.6)
    expect(bucket.lengthened).toBeGreaterThan(40)
    // Without a new point nothing is asked for at all, and without a young one neither.
    calendar.day--
    const before = bucket.asked
    expect(await renew(world)).toMatchObject({ asked: 0, lengthened: 0, short: [] })
    calendar.day += 99
    await world.loseCache()
    expect(await renew(world)).toMatchObject({ snapshots: 0, lengthened: 0, short: [] })
    expect(bucket.asked - before).toBeLessThanOrEqual(made.size)
  })

  it('says in a dry run what it would do and does it then; a lost or damaged cache costs questions alone', async () => {
    await using world = await World.make(10)
    const { bucket, calendar } = world
    const first = await world.save(range(0, 20))
    await world.save(range(20, 20))
    calendar.day = 4
    const second = await world.save([...range(0, 40), 77])
    const before = bucket.ends()
    const planned = await renew(world, { dryRun: true })
    expect(bucket.ends()).toEqual(before)
    expect(planned.short).toEqual([
      {
        snapshot: second,
        time: expect.stringContaining('2026-11-05'),
        wanted: new Date(BEGIN + 14 * DAY).toISOString(),
        until: new Date(BEGIN + 10 * DAY).toISOString(),
      },
    ])
    expect(planned.lengthened).toBeGreaterThan(1)
    const done = await renew(world)
    expect(done).toMatchObject({ snapshots: 3, lengthened: planned.lengthened, short: [] })
    await expectProtected(
      world,
      new Map([
        [first, 0],
        [second, 4],
      ]),
    )
    const after = bucket.ends()
    for (const damage of ['lost', 'damaged', 'foreign'] as const) {
      await world.loseCache()
      await renew(world, { dryRun: true })
      const file = join(world.cache, world.repository.id, 'lock-ends.sqlite')
      if (damage === 'damaged') await writeFile(file, randomBytes(20_000))
      if (damage === 'foreign') {
        const { DatabaseSync } = await import('node:sqlite')
        const other = new DatabaseSync(file)
        other.exec('PRAGMA user_version = 99')
        other.close()
      }
      if (damage === 'lost') await rm(file)
      const again = await renew(world)
      expect(again, damage).toMatchObject({ lengthened: 0, short: [] })
      expect(again.asked, damage).toBeGreaterThan(5)
      expect(await renew(world), damage).toMatchObject({ asked: 0 })
    }
    expect(bucket.ends()).toEqual(after)
  })

  it('a wrong clock locks nothing for years; what a copy brings counts from when it came', async () => {
    await using world = await World.make(10)
    const { bucket, calendar } = world
    await world.save(range(0, 20), '2099-01-01T00:00:00Z')
    calendar.day = 5
    const copy = await world.save(range(0, 20), '2020-01-01T00:00:00Z')
    await renew(world)
    const ends = bucket.ends()
    for (const file of await world.needs(copy)) expect(ends.get(file) ?? 0, file).toBeGreaterThanOrEqual(BEGIN + 15 * DAY)
    for (const [file, until] of ends) expect(until, file).toBeLessThanOrEqual(BEGIN + 17 * DAY)
  })

  it('a lost pack or a damaged snapshot is told of the points that need it, and keeps no other from being protected', async () => {
    await using world = await World.make(10)
    const { bucket, calendar } = world
    const lost = await world.save(range(0, 20))
    const [pack = expect.fail()] = [...bucket.files.keys()].filter((key) => key.startsWith('data/'))
    await world.save(range(20, 20))
    calendar.day = 3
    const sound = await world.save(range(20, 20))
    bucket.files.delete(pack)
    bucket.files.set(`snapshot/${'ab'.repeat(32)}`, { bytes: Buffer.alloc(100), until: undefined })
    const { short } = await renew(world)
    expect(short.map(({ snapshot }) => snapshot).toSorted()).toEqual([lost, 'ab'.repeat(32)].toSorted())
    for (const each of short) expect(each).toMatchObject({ until: undefined, problem: expect.any(String) })
    await expectProtected(world, new Map([[sound, 3]]))
  })

  it('a refused right ends it at once', async () => {
    await using world = await World.make(10)
    const { bucket, calendar } = world
    await world.save(range(0, 40))
    calendar.day = 3
    await world.save(range(0, 40))
    bucket.failsIn = 0
    bucket.failure = new AgentError('CONFIG', 'The key pair may not.')
    await expect(renew(world)).rejects.toMatchObject({ code: 'CONFIG' })
    expect(bucket.asked).toBeLessThan(10)
    expect([...bucket.files.keys()].filter((key) => key.startsWith('lock/'))).toEqual([])
  })

  it('whatever is saved, forgotten, pruned, cut and lost on the way: kept points are protected, no lock is shorter, nothing is locked for those that went', async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ save: fc.array(fc.nat(30), { minLength: 1, maxLength: 12 }) }) },
      { weight: 3, arbitrary: fc.record({ days: fc.integer({ min: 1, max: 6 }) }) },
      { weight: 2, arbitrary: fc.record({ forget: fc.nat(20) }) },
      { weight: 2, arbitrary: fc.record({ cut: fc.nat(12) }) },
      { weight: 2, arbitrary: fc.constant({ prune: true }) },
      { weight: 1, arbitrary: fc.constantFrom({ lose: 'cache' }, { lose: 'process' }) },
      { weight: 1, arbitrary: fc.record({ lockDays: fc.integer({ min: 5, max: 15 }) }) },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 6, maxLength: 24 }), async (steps) => {
        await using world = await World.make(10)
        const { bucket, calendar } = world
        const made = new Map<string, number>()
        let known = bucket.ends()
        const expectNoneShorter = (): void => {
          const ends = bucket.ends()
          for (const [file, until] of known) if (bucket.files.has(file)) expect(ends.get(file) ?? 0, file).toBeGreaterThanOrEqual(until)
          known = ends
        }
        for (const each of [...steps, { cut: 1 }, { days: 1 }, { prune: true }]) {
          if ('save' in each) made.set(await world.save(each.save), calendar.day)
          else if ('days' in each) calendar.day += each.days
          else if ('forget' in each) {
            const id = [...made.keys()][each.forget % Math.max(1, made.size)]
            if (id === undefined || (await world.repository.snapshots.lockedUntil(id)) !== undefined) continue
            await world.repository.snapshots.forget([id])
            made.delete(id)
          } else if ('cut' in each) {
            bucket.failsIn = each.cut
            await renew(world).catch((error: unknown) => expect(error).toMatchObject({ code: 'UNAVAILABLE' }))
            bucket.failsIn = Number.POSITIVE_INFINITY
          } else if ('prune' in each) await world.repository.prune({ mostUnused: { bytes: 0 } })
          else if ('lockDays' in each) bucket.days = each.lockDays
          else if (each.lose === 'cache') await world.loseCache()
          else await world.restart()
          expectNoneShorter()
          if (!('cut' in each) && !('save' in each)) continue
          const planned = await renew(world, { dryRun: true })
          const before = bucket.ends()
          const done = await renew(world)
          expect(done).toMatchObject({ lengthened: planned.lengthened, short: [] })
          expectNoneShorter()
          await expectProtected(world, made)
          const most = BEGIN + (calendar.day + bucket.days + Math.max(1, bucket.days * 0.2)) * DAY
          const needed = new Set<string>()
          for (const id of made.keys()) for (const file of await world.needs(id)) needed.add(file)
          for (const [file, until] of bucket.ends()) {
            if (until === before.get(file)) continue
            expect(until, file).toBeLessThanOrEqual(most)
            expect(needed.has(file), `${file} is needed by a point that is kept`).toBe(true)
          }
        }
        expect(await Array.fromAsync(world.repository.check({ readData: true }))).toEqual([])
        expect((await Array.fromAsync(world.repository.snapshots.list())).map(({ id }) => id).toSorted()).toEqual(
          [...made.keys()].toSorted(),
        )
      }),
      { numRuns: 8, seed: 20261127 },
    )
  })

  it('does not hinder that a key is taken away, however long its file is kept', async () => {
    await using world = await World.make(10)
    await world.save(range(0, 20))
    const { id: key } = await world.repository.keys.add(new Secret('another'))
    await renew(world)
    await world.repository.keys.remove(key)
    expect([...world.bucket.files.keys()].filter((name) => name.startsWith('key/'))).toHaveLength(1)
    expect(await renew(world)).toMatchObject({ asked: 0, short: [] })
  })

  it('does not hinder a prune: what no point needs goes when its own lock is over', async () => {
    await using world = await World.make(4)
    const { bucket, calendar } = world
    const first = await world.save(range(0, 20))
    const kept = await world.save(range(20, 20))
    const packs = (): number => [...bucket.files.keys()].filter((key) => key.startsWith('data/')).length
    const before = packs()
    for (calendar.day = 1; calendar.day <= 5; calendar.day++) {
      await world.save([...range(20, 20), 500 + calendar.day])
      await renew(world)
    }
    // Its index file is kept for long by now, because it names what is needed as well.
    await world.repository.snapshots.forget([first])
    const report = await world.repository.prune({ mostUnused: { bytes: 0 } })
    expect(report.freedBytes).toBeGreaterThan(20 * 2048)
    expect(packs()).toBeLessThanOrEqual(before + 5 * 2)
    expect(await Array.fromAsync(world.repository.check({ readData: true }))).toEqual([])
    expect((await world.repository.snapshots.get(kept)).id).toBe(kept)
  })
})
