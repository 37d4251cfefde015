import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openSqliteJobVms, openSqliteRunHistory } from '../../src/history/index.ts'
import { openState } from '../../src/state/index.ts'
import { type HistoryWorld, runHistoryContract } from './run-history-contract.ts'

async function openWorld(): Promise<HistoryWorld> {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-history-'))
  const state = await openState(join(directory, 'state.sqlite'))
  return {
    history: openSqliteRunHistory(state),
    jobVms: openSqliteJobVms(state),
    [Symbol.asyncDispose]: async () => {
      await state[Symbol.asyncDispose]()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

runHistoryContract('SQLite', openWorld)
