import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import {
  openPgJobVms,
  openPgRepositoryPrunes,
  openPgRunHistory,
  openSqliteJobVms,
  openSqliteRepositoryPrunes,
  openSqliteRunHistory,
} from '../../src/history/index.ts'
import { openState } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { type HistoryWorld, runHistoryContract } from './run-history-contract.ts'
import { fastDirectory } from '../fast-directory.ts'

async function openWorld(): Promise<HistoryWorld> {
  const directory = await fastDirectory('vcb-history-')
  const state = await openState(join(directory, 'state.sqlite'))
  return {
    history: openSqliteRunHistory(state),
    jobVms: openSqliteJobVms(state),
    prunes: openSqliteRepositoryPrunes(state),
    [Symbol.asyncDispose]: async () => {
      await state[Symbol.asyncDispose]()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

runHistoryContract('SQLite', openWorld)

describePeer('postgres', 'shared', (path) => {
  let server: Postgres
  beforeAll(async () => {
    server = await startPostgres(path)
  })
  afterAll(() => server[Symbol.asyncDispose]())
  runHistoryContract('PostgreSQL', async () => {
    const state = await server.state()
    return {
      history: openPgRunHistory(state),
      jobVms: openPgJobVms(state),
      prunes: openPgRepositoryPrunes(state),
      [Symbol.asyncDispose]: () => state[Symbol.asyncDispose](),
    }
  })
})
