import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { AgentError, type Clock, silentLog } from '../core/index.ts'
import type { Backend } from './backend.ts'
import { directoryBackend } from './directory-backend.ts'
import type { RepositoryDeps } from './repository.ts'
import { RepositoryLock } from './repository-lock.ts'
import { SealedFiles } from './sealed-files.ts'
import { sealKeyFrom } from './sealing.ts'
import { afterAMoment } from '../../test/after-a-moment.ts'
import { fastDirectory } from '../../test/fast-directory.ts'
import { hurriedClock } from '../../test/hurried-clock.ts'

const MINUTE = 60_000

/** A clock that stands still until it is moved; `tick` runs what is due. */
class HandClock implements Clock {
  #ms = Date.UTC(2026, 10, 22)
  readonly #timers = new Set<{
    due: number
    readonly every: number
    readonly run: () => void | Promise<void>
    readonly onError: (error: unknown) => void
  }>()
  onSleep: () => Promise<void> = async () => undefined

  now(): Date {
    return new Date(this.#ms)
  }

  monotonicMs(): number {
    return this.#ms
  }

  async sleep(ms: number): Promise<void> {
    this.#ms += ms
    await this.onSleep()
  }

  every(ms: number, run: () => void | Promise<void>, onError: (error: unknown) => void): Disposable {
    const timer = { due: this.#ms + ms, every: ms, run, onError }
    this.#timers.add(timer)
    return { [Symbol.dispose]: () => this.#timers.delete(timer) }
  }

  get timers(): number {
    return this.#timers.size
  }

  async tick(ms: number): Promise<void> {
    const end = this.#ms + ms
    while (this.#ms < end) {
      this.#ms = Math.min(end, this.#ms + MINUTE)
      for (const timer of this.#timers) {
        if (timer.due > this.#ms) continue
        timer.due = this.#ms + timer.every
        try {
          await timer.run()
        } catch (error) {
          timer.onError(error)
        }
      }
    }
  }
}

class Place implements AsyncDisposable {
  readonly clock = new HandClock()
  readonly key = sealKeyFrom(randomBytes(64))
  readonly #directory: string
  readonly backend: Backend

  private constructor(directory: string) {
    this.#directory = directory
    this.backend = afterAMoment(directoryBackend(join(directory, 'repo')))
  }

  static async make(): Promise<Place> {
    return new Place(await fastDirectory('vcb-lock-'))
  }

  files(backend = this.backend): SealedFiles {
    return new SealedFiles(backend, this.key, randomBytes)
  }

  deps(hostname = 'here', pid = process.pid): RepositoryDeps {
    return { clock: this.clock, log: silentLog, random: randomBytes, hostname, username: 'u', pid }
  }

  take(exclusive: boolean, deps = this.deps()): Promise<RepositoryLock> {
    return RepositoryLock.take(this.files(), deps, { exclusive })
  }

  async names(): Promise<string[]> {
    return (await Array.fromAsync(this.backend.list('lock'))).map(({ name }) => name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
  }
}

describe('RepositoryLock', () => {
  it('shares among readers and writers, excludes for the exclusive one, and leaves nothing', async () => {
    await using place = await Place.make()
    {
      await using first = await place.take(false)
      await using second = await place.take(false, place.deps('elsewhere', 1))
      expect(first.signal.aborted || second.signal.aborted).toBe(false)
      expect(await place.names()).toHaveLength(2)
      await expect(place.take(true)).rejects.toMatchObject({ code: 'CONFLICT', retry: 'later' })
    }
    expect(await place.names()).toEqual([])
    {
      await using alone = await place.take(true)
      expect(alone.signal.aborted).toBe(false)
      await expect(place.take(false)).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('exclusively') })
      await expect(place.take(true)).rejects.toMatchObject({ code: 'CONFLICT' })
    }
    expect(await place.names()).toEqual([])
    expect(place.clock.timers).toBe(0)
  })

  it('looks again after writing its own: of two that did not see each other, none wins against an exclusive one', async () => {
    await using place = await Place.make()
    const other = new HandClock()
    const rival = { ...place.deps('elsewhere', 1), clock: other }
    let taken: RepositoryLock | undefined
    // While the exclusive taker waits, a shared lock appears that looked before the exclusive file was there.
    place.clock.onSleep = async () => {
      place.clock.onSleep = async () => undefined
      const file = Buffer.from(
        `{"time":"${place.clock.now().toISOString()}","exclusive":false,"hostname":"elsewhere","username":"u","pid":1}`,
      )
      await place.files().save('lock', file)
    }
    await expect(place.take(true)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await place.names()).toHaveLength(1)
    taken = await place.take(false, rival)
    await taken[Symbol.asyncDispose]()
  })

  it('of several that come at the same moment one has it, and the others are told who', async () => {
    await using place = await Place.make()
    const deps = (host: string): RepositoryDeps => ({ ...place.deps(host, 1), random: randomBytes, clock: hurriedClock(20) })
    for (let round = 0; round < 5; round++) {
      const come = ['one', 'two', 'three'].map((host) => RepositoryLock.take(place.files(), deps(host), { exclusive: true }))
      const ended = await Promise.allSettled(come)
      const taken = ended.filter((each) => each.status === 'fulfilled')
      expect(taken).toHaveLength(1)
      for (const each of ended) {
        if (each.status === 'rejected') {
          expect(each.reason).toMatchObject({
            code: 'CONFLICT',
            message: expect.stringContaining('is locked exclusively by process 1 of u on '),
          })
        }
      }
      for (const { value } of taken) await value[Symbol.asyncDispose]()
      expect(await place.names()).toEqual([])
    }
  })

  it('renews itself every five minutes, so that it never gets stale', async () => {
    await using place = await Place.make()
    await using lock = await place.take(true)
    const first = await place.names()
    for (let round = 0; round < 12; round++) {
      await place.clock.tick(5 * MINUTE)
      await expect(place.take(false, place.deps('elsewhere', 1))).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(await place.names()).toHaveLength(1)
    }
    expect(await place.names()).not.toEqual(first)
    expect(lock.signal.aborted).toBe(false)
  })

  it('removes a lock 30 minutes old of another host, not one of 29', async () => {
    await using place = await Place.make()
    const abandoned = Buffer.from(
      `{"time":"${place.clock.now().toISOString()}","exclusive":true,"hostname":"elsewhere","username":"u","pid":1}`,
    )
    await place.files().save('lock', abandoned)
    await place.clock.tick(29 * MINUTE)
    await expect(place.take(false)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('process 1 of u on elsewhere'),
    })
    await place.clock.tick(2 * MINUTE)
    await using lock = await place.take(false)
    expect(lock.signal.aborted).toBe(false)
    expect(await place.names()).toHaveLength(1)
  })

  it('removes at once a lock of a process of this host that is gone', async () => {
    await using place = await Place.make()
    const dead = Buffer.from(
      `{"time":"${place.clock.now().toISOString()}","exclusive":true,"hostname":"here","username":"u","pid":4194303}`,
    )
    await place.files().save('lock', dead)
    await using lock = await place.take(true)
    expect(lock.signal.aborted).toBe(false)
  })

  it('begins other work while it waits its moment, and neither waits for it nor fails with it', async () => {
    await using place = await Place.make()
    const begun: string[] = []
    place.clock.onSleep = async () => void begun.push('slept')
    const meanwhile = async (): Promise<never> => {
      begun.push('begun')
      throw new AgentError('NOT_FOUND', 'An index file has gone.')
    }
    await using lock = await RepositoryLock.take(place.files(), place.deps(), { exclusive: false, meanwhile })
    expect(lock.signal.aborted).toBe(false)
    expect(begun).toEqual(['begun', 'slept'])
    await expect(
      RepositoryLock.take(place.files(), place.deps('elsewhere', 1), { exclusive: true, meanwhile: async () => begun.push('too early') }),
    ).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(begun).not.toContain('too early')
  })

  it('waits no moment in a directory of this machine, where nobody can miss what was saved', async () => {
    await using place = await Place.make()
    let slept = 0
    place.clock.onSleep = async () => void slept++
    const local = directoryBackend(place.backend.url)
    expect(await local.listsAtOnce?.()).toBe(false)
    await local.save({ kind: 'lock', name: '0'.repeat(64) }, Buffer.alloc(0))
    expect(await local.listsAtOnce?.()).toBe(true)
    await using _lock = await RepositoryLock.take(place.files(local), place.deps(), { exclusive: true })
    expect(slept).toBe(0)
    await expect(place.take(false, place.deps('elsewhere', 1))).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('waits for a conflicting lock as long as it is told', async () => {
    await using place = await Place.make()
    const holder = await place.take(true, place.deps('elsewhere', 1))
    let sleeps = 0
    place.clock.onSleep = async () => {
      if (++sleeps === 3) await holder[Symbol.asyncDispose]()
    }
    await expect(RepositoryLock.take(place.files(), place.deps(), { exclusive: false, waitMs: 6000 })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
    await using lock = await RepositoryLock.take(place.files(), place.deps(), { exclusive: false, waitMs: 60_000 })
    expect(lock.signal.aborted).toBe(false)
  })

  it('is lost when its file goes, and says so by its signal and before a commit', async () => {
    await using place = await Place.make()
    await using renewed = await place.take(false)
    await using verified = await place.take(false)
    for (const name of await place.names()) await place.backend.remove({ kind: 'lock', name })
    await expect(verified.verify()).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(renewed.signal.aborted).toBe(false)
    await place.clock.tick(5 * MINUTE)
    expect(renewed.signal.reason).toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('was lost') })
    expect(await place.names()).toEqual([])
  })

  it('survives a backend that fails for a while, and is lost when it fails for 25 minutes', async () => {
    await using place = await Place.make()
    let failing = false
    const backend: Backend = Object.create(place.backend, {
      save: {
        value: (...args: Parameters<Backend['save']>) => (failing ? Promise.reject(new Error('network')) : place.backend.save(...args)),
      },
      load: { value: place.backend.load.bind(place.backend) },
      list: { value: place.backend.list.bind(place.backend) },
      stat: { value: place.backend.stat.bind(place.backend) },
      remove: { value: place.backend.remove.bind(place.backend) },
      url: { value: 'faulty' },
    }) as Backend
    await using lock = await RepositoryLock.take(place.files(backend), place.deps(), { exclusive: false })
    failing = true
    await place.clock.tick(16 * MINUTE)
    expect(lock.signal.aborted).toBe(false)
    failing = false
    await place.clock.tick(5 * MINUTE)
    failing = true
    await place.clock.tick(21 * MINUTE)
    expect(lock.signal.aborted).toBe(false)
    await place.clock.tick(10 * MINUTE)
    expect(lock.signal.aborted).toBe(true)
  })

  it('is recorded by name before its file is there, and struck after it is gone, also at each renewal', async () => {
    await using place = await Place.make()
    const told: { readonly recorded: readonly string[]; readonly there: readonly string[] }[] = []
    const recordLocks = async (names: readonly string[]): Promise<void> => {
      told.push({ recorded: names, there: await place.names() })
    }
    {
      await using lock = await RepositoryLock.take(place.files(), place.deps(), { exclusive: false, recordLocks })
      const [first] = await place.names()
      await place.clock.tick(5 * MINUTE)
      const [second] = await place.names()
      expect(second).not.toBe(first)
      expect(told).toEqual([
        { recorded: [first], there: [] },
        { recorded: [first, second], there: [first] },
        { recorded: [second], there: [second] },
      ])
      expect(lock.signal.aborted).toBe(false)
    }
    expect(told.slice(3)).toEqual([{ recorded: [], there: [] }])
  })

  it('that loses against another is struck, and one that cannot be recorded is not made', async () => {
    await using place = await Place.make()
    await using _other = await place.take(true, place.deps('elsewhere', 1))
    const told: (readonly string[])[] = []
    const recordLocks = async (names: readonly string[]): Promise<void> => void told.push(names)
    await expect(RepositoryLock.take(place.files(), place.deps(), { exclusive: false, recordLocks })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
    expect(told).toEqual([])
    await _other[Symbol.asyncDispose]()
    // The other one comes while we wait to look again.
    place.clock.onSleep = async () => {
      place.clock.onSleep = async () => undefined
      const text = `{"time":"${place.clock.now().toISOString()}","exclusive":true,"hostname":"elsewhere","username":"u","pid":1}`
      await place.files().save('lock', Buffer.from(text))
    }
    await expect(RepositoryLock.take(place.files(), place.deps(), { exclusive: false, recordLocks })).rejects.toMatchObject({
      code: 'CONFLICT',
    })
    expect(told).toEqual([[expect.stringMatching(/^[0-9a-f]{64}$/)], []])
    expect(await place.names()).toHaveLength(1)
    const full = { exclusive: false, recordLocks: () => Promise.reject(new Error('the journal is full')) }
    const before = await place.names()
    await expect(RepositoryLock.take(place.files(), place.deps(), { ...full, exclusive: false })).rejects.toThrow()
    expect(await place.names()).toEqual(before)
  })

  it('whose renewal was saved but failed after it is removed with the next one', async () => {
    await using place = await Place.make()
    let failing = false
    const backend: Backend = Object.create(place.backend, {
      save: {
        value: async (...args: Parameters<Backend['save']>) => {
          await place.backend.save(...args)
          if (failing) throw new Error('lost the answer')
        },
      },
      load: { value: place.backend.load.bind(place.backend) },
      list: { value: place.backend.list.bind(place.backend) },
      stat: { value: place.backend.stat.bind(place.backend) },
      remove: { value: place.backend.remove.bind(place.backend) },
      url: { value: 'faulty' },
    }) as Backend
    await using lock = await RepositoryLock.take(place.files(backend), place.deps(), { exclusive: false })
    failing = true
    await place.clock.tick(5 * MINUTE)
    expect(await place.names()).toHaveLength(2)
    failing = false
    await place.clock.tick(5 * MINUTE)
    expect(await place.names()).toHaveLength(1)
    await lock[Symbol.asyncDispose]()
    expect(await place.names()).toEqual([])
  })
})
