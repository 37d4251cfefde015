import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { createConnection, createServer, type Socket } from 'node:net'
import { once } from 'node:events'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { describePeer } from '../../test/peer.ts'
import { type Postgres, startPostgres } from '../../test/postgres.ts'
import { AgentError, type Effect, EFFECT_BEFORE, Secret, silentLog, systemClock } from '../core/index.ts'
import { openPgState, parsePgAddress, pgStatement, type PgState } from './index.ts'
import { PG_MIGRATIONS } from './pg-migrations.ts'

const insert = pgStatement<[number]>('INSERT INTO kept VALUES ($1)')
const list = pgStatement<[], number>('SELECT id FROM kept ORDER BY id', (row) => row.integer('id'))
const pause = pgStatement<[number]>('SELECT pg_sleep($1)')
const one = pgStatement<[], number>('SELECT 1 AS one', (row) => row.integer('one'))

describePeer('postgres', 'PgState', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path, { tcp: true })
  })
  afterAll(() => server[Symbol.asyncDispose]())

  const withTable = async (more: Parameters<Postgres['state']>[0] = {}): Promise<PgState> => {
    const state = await server.state(more)
    await state.transaction('table', (session) => session.run(pgStatement<[]>('CREATE TABLE kept (id bigint PRIMARY KEY)')))
    return state
  }

  it('is made by whoever comes first, at once by many, and is refused when it is newer', async () => {
    const database = await server.database()
    const states = await Promise.all(Array.from({ length: 5 }, () => server.state({ database })))
    for (const state of states) {
      expect(await state.get(pgStatement<[], number>('SELECT version FROM about', (row) => row.integer('version')))).toBe(
        PG_MIGRATIONS.length,
      )
      await state[Symbol.asyncDispose]()
    }
    server.sql('UPDATE vcb.about SET version = version + 1', database)
    await expect(server.state({ database })).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('this vcb knows up to'),
    })
    server.sql('DROP TABLE vcb.about', database)
    await expect(server.state({ database })).rejects.toMatchObject({ code: 'INTEGRITY', message: expect.stringContaining('did not make') })
  })

  it('takes all of a change or none, as an effect, and refuses changes past it', async () => {
    await using state = await withTable()
    const seen: string[] = []
    const listener = (message: unknown): void => void seen.push((message as Effect).what)
    subscribe(EFFECT_BEFORE, listener)
    try {
      await state.transaction('kept', (session) => session.run(insert, 1))
      await expect(
        state.transaction('refused', async (session) => {
          await session.run(insert, 2)
          throw new Error('no')
        }),
      ).rejects.toThrow('no')
    } finally {
      unsubscribe(EFFECT_BEFORE, listener)
    }
    expect(seen).toEqual(['kept', 'refused'])
    await expect(state.reading((session) => session.run(insert, 3))).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('read-only'),
    })
    await expect(state.all(insert, 3)).rejects.toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('read-only') })
    expect(await state.all(list)).toEqual([1])
    // A statement that failed and was swallowed does not pass for a change that was made.
    await expect(
      state.transaction('swallowed', async (session) => {
        await session.run(insert, 4)
        await expect(session.run(insert, 1)).rejects.toThrow('duplicate')
      }),
    ).rejects.toMatchObject({ code: 'INTERNAL' })
    expect(await state.all(list)).toEqual([1])
  })

  it('gives integers, moments, truth and text as rows are read, whatever the role is set to', async () => {
    await using state = await server.state()
    const read = pgStatement<[], unknown>(
      `SELECT 9007199254740991::bigint AS most, true AS yes, '2026-11-26 22:00:00.5+05:30'::timestamptz AS at, NULL::text AS nothing, '{"a":1}' AS j`,
      (row) => [row.integer('most'), row.integer('yes'), row.text('at'), row.optionalText('nothing'), row.json('j')],
    )
    expect(await state.get(read)).toEqual([Number.MAX_SAFE_INTEGER, 1, '2026-11-26T16:30:00.500Z', undefined, { a: 1 }])
    const wrong = pgStatement<[], number>('SELECT 9007199254740992::bigint AS more', (row) => row.integer('more'))
    await expect(state.get(wrong)).rejects.toMatchObject({ code: 'INTEGRITY', next: expect.stringContaining('schema vcb') })
  })

  it('lets changes with one lock run one after the other', async () => {
    await using state = await withTable()
    const count = pgStatement<[], number>('SELECT count(*) AS n FROM kept', (row) => row.integer('n'))
    const next = (): Promise<void> =>
      state.transaction(
        'next',
        async (session) => {
          await session.run(insert, (await session.get(count)) ?? -1)
        },
        { lock: 'one' },
      )
    await Promise.all(Array.from({ length: 30 }, next))
    expect(await state.all(list)).toEqual(Array.from({ length: 30 }, (_, index) => index))
  })

  it('tries again what the server gave up for others', async () => {
    await using state = await withTable()
    await state.transaction('two', async (session) => {
      await session.run(insert, 1)
      await session.run(insert, 2)
    })
    const touch = pgStatement<[number]>('UPDATE kept SET id = id WHERE id = $1')
    let turns = 0
    const both = (first: number, second: number): Promise<void> =>
      state.transaction('both', async (session) => {
        turns++
        await session.run(touch, first)
        await session.run(pause, 0.3)
        await session.run(touch, second)
      })
    await Promise.all([both(1, 2), both(2, 1)])
    expect(turns).toBe(3)
  })

  it('waits out a restart of the server, and says that it is away when it stays so', async () => {
    await using state = await withTable()
    await using hasty = await server.state({ patienceMs: 300 })
    await hasty.get(one)
    await server.stop('immediate')
    await expect(hasty.get(one)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('is away') })
    const change = state.transaction('kept', (session) => session.run(insert, 1))
    await systemClock.sleep(700)
    await server.start()
    await change
    expect(await state.all(list)).toEqual([1])
    expect(await hasty.get(one)).toBe(1)
  })

  it('never does a change twice whose answer was lost, nor forgets one', async () => {
    const database = await server.database()
    await using direct = await withTable({ database })
    for (const lost of ['answer', 'request'] as const) {
      await using cut = await cutAtCommit(server.port, lost)
      // Through a socket directory of its own, so that only this state is cut.
      await using state = await openPgState({
        address: parsePgAddress(`postgres://vcb@127.0.0.1:${cut.port}/${database}`),
        password: async () => server.password,
        ca: server.ca,
        clock: systemClock,
        log: silentLog,
        name: 'cut',
      })
      let turns = 0
      cut.arm()
      await state.transaction('kept', (session) => {
        turns++
        return session.run(insert, lost === 'answer' ? 1 : 2)
      })
      expect(cut.cuts()).toBe(1)
      expect(turns).toBe(lost === 'answer' ? 1 : 2)
    }
    expect(await direct.all(list)).toEqual([1, 2])
  })

  it('speaks TLS with a verified certificate, or not at all; a wrong password is refused', async () => {
    const database = await server.database()
    const open = (url: string, more: { readonly password?: string; readonly ca?: string } = {}): Promise<PgState> =>
      openPgState({
        address: parsePgAddress(url),
        password: async () => new Secret(more.password ?? server.password.reveal()),
        ca: more.ca,
        clock: systemClock,
        log: silentLog,
        name: 'tls',
        patienceMs: 0,
      })
    const tls = pgStatement<[], number>('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()', (row) => row.integer('ssl'))
    for (const host of ['localhost', '127.0.0.1']) {
      await using state = await open(server.tcpUrl(database, host), { ca: server.ca })
      expect(await state.get(tls)).toBe(1)
    }
    const refused = (code: string, said: string) => expect.objectContaining({ code, message: expect.stringContaining(said) })
    await expect(open(server.tcpUrl(database))).rejects.toEqual(refused('AUTH', 'is not trusted'))
    await expect(open(server.tcpUrl(database, '127.0.0.2'), { ca: server.ca })).rejects.toBeInstanceOf(AgentError)
    await expect(open(server.tcpUrl(database), { ca: server.ca, password: 'wrong' })).rejects.toEqual(refused('AUTH', 'refused the login'))
    await expect(open(server.tcpUrl('nowhere'), { ca: server.ca })).rejects.toEqual(refused('CONFIG', 'does not exist'))
    await expect(open(server.url('vcb1').replace('user=vcb', 'user=nobody'))).rejects.toEqual(refused('AUTH', 'refused the login'))
  })

  it('says what right is missing', async () => {
    const database = await server.database()
    server.sql('CREATE ROLE guest LOGIN')
    await expect(server.state({ address: parsePgAddress(server.url(database).replace('user=vcb', 'user=guest')) })).rejects.toMatchObject({
      code: 'CONFIG',
      message: expect.stringContaining('lacks a right'),
    })
  })

  it('says that a standby takes no changes', async () => {
    await using state = await withTable({ patienceMs: 0 })
    const signal = join(server.data, 'standby.signal')
    await server.stop()
    try {
      await writeFile(signal, '')
      await server.start()
      expect(await state.all(list)).toEqual([])
      await expect(state.transaction('kept', (session) => session.run(insert, 1))).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining('is a standby'),
      })
    } finally {
      await rm(signal, { force: true })
      await server.stop('immediate')
      await server.start()
    }
  })

  it('says what else ails the server', async () => {
    await using state = await withTable({ patienceMs: 0 })
    const raise = (code: string, text: string) => pgStatement<[]>(`DO $$ BEGIN RAISE EXCEPTION '${text}' USING ERRCODE = '${code}'; END $$`)
    const said = (code: string, text: string) => state.transaction('raise', (session) => session.run(raise(code, text)))
    await expect(said('53100', 'could not extend file')).rejects.toMatchObject({ code: 'CAPACITY' })
    await expect(said('XX001', 'invalid page in block 3')).rejects.toMatchObject({ code: 'INTEGRITY' })
    await expect(said('53300', 'too many connections')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await expect(said('57014', 'statement timeout')).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('is not loaded by a proxy that has its own file', async () => {
    const text = await readFile(new URL('./pg-pool.ts', import.meta.url), 'utf8')
    expect(text).toMatch(/^import type \{[^}]*\} from 'pg'$/m)
    expect(text).toContain("await import('pg')")
  })
})

/** Forwards connections to the server and breaks the first one after `arm` at its COMMIT: before the server gets it, or before the answer comes back. TLS hides the words: the COMMIT is told by the number of messages. */
async function cutAtCommit(port: number, lost: 'answer' | 'request') {
  let armed = false
  let cuts = 0
  let sent = 0
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = createConnection(port, '127.0.0.1')
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        near.destroy()
        far.destroy()
      })
    }
    near.on('data', (data) => {
      // BEGIN, the number, the change in one piece (parse, bind, describe, execute, sync), COMMIT.
      const commit = armed && ++sent === 4
      if (!commit) return void far.write(data)
      armed = false
      cuts++
      if (lost === 'request') return void near.destroy()
      far.once('data', () => near.destroy())
      far.write(data)
    })
    far.on('data', (data) => {
      if (!near.destroyed) near.write(data)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    arm: () => {
      armed = true
      sent = 0
    },
    cuts: () => cuts,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
