import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Agent } from '../../src/agent/agent.ts'
import type { CheckEnded } from '../../src/agent/check-ended.ts'
import { checkedPlace } from '../../src/agent/check-record.ts'
import { loadConfig } from '../../src/agent/config/config.ts'
import { RepositoryChecker } from '../../src/agent/repository-checker.ts'
import { type Clock, Secret, silentLog, systemClock } from '../../src/core/index.ts'
import { openProvider } from '../../src/provider/index.ts'
import { diskRef, noise, WatchedDisk, writePoint } from '../contract/provider-fixtures.ts'
import { describePeer } from '../peer.ts'
import { startPostgres } from '../postgres.ts'

const DAY = 24 * 3_600_000
let directory: string
let repository: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vcb-check-'))
  repository = join(directory, 'repository')
  await writeFile(join(directory, 'password'), 'secret\n', { mode: 0o600 })
  await using provider = await openProvider(repository, {
    clock: systemClock,
    log: silentLog,
    random: randomBytes,
    hostname: 'proxy',
    username: 'vcb',
    pid: process.pid,
    password: new Secret('secret'),
    init: true,
    workers: 1,
  })
  for (let round = 0; round < 3; round++) {
    const source = new WatchedDisk(noise(256 * 1024, round))
    await writePoint(provider, [{ disk: diskRef(2000, source.size), source }])
  }
})
afterAll(() => rm(directory, { recursive: true, force: true }))

type World = AsyncDisposable & {
  readonly agent: Agent
  readonly checker: RepositoryChecker
  readonly told: CheckEnded[]
  /** Moves the wall clock. */
  readonly later: (days: number) => void
  /** Asked once before a check, and after each part of the data. */
  isBusy: () => boolean
}

/** An agent whose jobs use the repository; `state` names its state directory. */
async function open(state: string, check: string, more = '', over: { sinceDays?: number } = {}): Promise<World> {
  const file = join(directory, `${state}.yaml`)
  await writeFile(
    file,
    `repositories:\n  main: { url: ${JSON.stringify(repository)}, passwordFile: password, check: ${check} }\n` +
      `  unused: { url: ${JSON.stringify(join(directory, 'unused'))}, passwordFile: password }\n` +
      `jobs:\n  - { name: nightly, select: [web01], repository: main, timeZone: UTC, rpo: 24h }\n${more}`,
  )
  let ahead = (over.sinceDays ?? 0) * DAY
  const clock: Clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + ahead) }
  const config = await loadConfig({}, { VCB_CONFIG: file, VCB_STATE_DIR: join(directory, state) })
  const agent = await Agent.open(config, { clock, log: silentLog, signal: new AbortController().signal, kind: 'agent' })
  const told: CheckEnded[] = []
  const world = { isBusy: () => false }
  const checker = new RepositoryChecker({
    agent,
    config: () => config,
    isBusy: () => world.isBusy(),
    followers: [{ name: 'test', afterCheck: async (ended) => void told.push(ended) }],
    stop: new AbortController().signal,
  })
  return Object.assign(world, {
    agent,
    checker,
    told,
    later: (days: number) => void (ahead += days * DAY),
    [Symbol.asyncDispose]: async () => {
      await checker[Symbol.asyncDispose]()
      await agent[Symbol.asyncDispose]()
    },
  })
}

const recordOf = async ({ agent }: World) => (await agent.checks.of(checkedPlace(repository))) ?? expect.fail()
const read = async (world: World): Promise<number> => (await recordOf(world)).slices.filter((at) => at !== null).length
const locks = (): Promise<readonly string[]> => readdir(join(repository, 'locks'))
const packs = async (): Promise<readonly string[]> =>
  (await readdir(join(repository, 'data'), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))

it('checks structure and a share of the data once a day, goes on where it was, and knows it after a restart', async () => {
  {
    await using world = await open('one', '{ structure: 1d, data: 4w }')
    await world.checker.look()
    expect(world.told).toEqual([])
    world.later(1.1)
    // Nothing begins while backups write there.
    world.isBusy = () => true
    await world.checker.look()
    expect(world.told).toEqual([])
    // A run comes: the part being read is the last one.
    let asked = 0
    world.isBusy = () => ++asked > 4
    await Promise.all([world.checker.look(), world.checker.look()])
    expect(await read(world)).toBe(4)
    expect(await locks()).toEqual([])
    world.isBusy = () => false
    await world.checker.look()
    await world.checker.look()
    expect(await read(world)).toBe(10)
    expect((await recordOf(world)).size).toMatchObject({ packs: (await packs()).length, unknownBytes: 0 })
    await world.checker.look()
    expect(await read(world)).toBe(10)
    expect(world.told.reduce((sum, { slices }) => sum + slices, 0)).toBe(10)
    expect(world.told.filter(({ structure }) => structure)).toHaveLength(1)
  }
  await using again = await open('one', '{ structure: 1d, data: 4w }', '', { sinceDays: 2.2 })
  await again.checker.look()
  expect(await read(again)).toBe(20)
  const finished = await again.agent.journal.finished(10)
  expect(finished.filter(({ kind }) => kind === 'check').map(({ outcome }) => outcome.result)).toContain('succeeded')
  expect(await again.agent.checks.of(checkedPlace(join(directory, 'unused')))).toBeUndefined()
})

it('tells what it finds, keeps it until it is found sound, and nothing outside the windows or when it is off', async () => {
  await using world = await open('two', '{ structure: off, data: 1d }')
  await world.checker.look()
  const [pack = expect.fail()] = await packs()
  const sound = await readFile(pack)
  const damaged = Buffer.from(sound)
  damaged[100] = (damaged[100] ?? 0) ^ 1
  await chmod(pack, 0o600)
  await writeFile(pack, damaged)
  try {
    world.later(1.1)
    await world.checker.look()
    expect(world.told).toMatchObject([{ repository: 'main', structure: false, slices: 256 }])
    expect(world.told[0]?.found.map(({ what }) => what).join('\n')).toContain(pack.slice(-64))
    expect(world.told[0]?.open.length).toBe(world.told[0]?.found.length)
    expect((await world.agent.journal.finished(1))[0]).toMatchObject({
      kind: 'check',
      outcome: { result: 'failed', reason: expect.stringContaining('problems, the first: ') },
    })
  } finally {
    await writeFile(pack, sound)
  }
  expect((await recordOf(world)).problems.length).toBeGreaterThan(0)
  world.later(1.1)
  await world.checker.look()
  expect((await recordOf(world)).problems).toEqual([])
  await using off = await open('three', 'off')
  await off.checker.look()
  off.later(99)
  await off.checker.look()
  expect(off.told).toEqual([])
})

it('gives way to who wants the repository for himself', async () => {
  await using world = await open('four', '{ structure: 1d, data: 1d }')
  await world.checker.look()
  world.later(1.1)
  let asked = 0
  const given: Promise<void>[] = []
  world.isBusy = () => {
    if (++asked === 5) given.push(world.checker.yield('other'), world.checker.yield('main'))
    return false
  }
  await world.checker.look()
  await Promise.all(given)
  expect(given).toHaveLength(2)
  expect(await locks()).toEqual([])
  expect(await read(world)).toBe(4)
  await world.checker.look()
  expect(await read(world)).toBe(256)
})

describePeer('postgres', 'several agents on one database', (path) => {
  it('check a repository once', async () => {
    await using server = await startPostgres(path)
    const more = `state: { url: ${JSON.stringify(server.url(await server.database()))} }\n`
    await using one = await open('pg1', '{ structure: 1d, data: 4w }', `${more}proxy: { name: one }\n`)
    await using two = await open('pg2', '{ structure: 1d, data: 4w }', `${more}proxy: { name: two }\n`)
    await Promise.all([one.checker.look(), two.checker.look()])
    for (const each of [one, two]) each.later(1.1)
    await Promise.all([one.checker.look(), two.checker.look()])
    await Promise.all([one.checker.look(), two.checker.look()])
    const told = [...one.told, ...two.told]
    expect(told.map(({ structure, slices }) => [structure, slices])).toEqual([[true, 10]])
    expect(await recordOf(two)).toEqual(await recordOf(one))
  })
})
