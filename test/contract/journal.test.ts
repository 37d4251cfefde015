import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { createIds, silentLog, systemClock } from '../../src/core/index.ts'
import { MemoryJournal, MemoryJournalRows, openSqliteJournal, PgJournal } from '../../src/journal/index.ts'
import { createProxyRegistry, openState, type State } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, proxyOf, startPostgres } from '../postgres.ts'
import { journalContract } from './journal-contract.ts'
import { fastDirectory } from '../fast-directory.ts'

journalContract('memory', async (clock) => {
  const rows = new MemoryJournalRows()
  return {
    as: async (self) => new MemoryJournal(clock, createIds(), self, rows),
    [Symbol.asyncDispose]: async () => undefined,
  }
})

journalContract('sqlite, one file opened by several processes', async (clock) => {
  const directory = await fastDirectory('vcb-journal-')
  const opened: State[] = []
  return {
    async as(self) {
      const state = await openState(join(directory, 'state.db'))
      opened.push(state)
      return openSqliteJournal({ state, clock, ids: createIds(), processes: { self: async () => self, isAlive: async () => true } })
    },
    async [Symbol.asyncDispose]() {
      for (const state of opened) await state[Symbol.asyncDispose]()
      await rm(directory, { recursive: true, force: true })
    },
  }
})

describePeer('postgres', 'shared', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())
  journalContract('PostgreSQL, by several proxies', async (clock) => {
    await using stack = new AsyncDisposableStack()
    const database = await server.database()
    const kept = stack.move()
    return {
      async as(self) {
        const state = kept.use(await server.state({ database }))
        const registry = createProxyRegistry({ state, clock: systemClock, log: silentLog })
        const { epoch } = kept.use(await registry.register(proxyOf(self)))
        return new PgJournal({ state, clock, ids: createIds(), self, epoch, host: self.bootId })
      },
      [Symbol.asyncDispose]: () => kept.disposeAsync(),
    }
  })
})
