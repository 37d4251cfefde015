import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createIds } from '../../src/core/index.ts'
import { MemoryJournal, MemoryJournalRows, openSqliteJournal } from '../../src/journal/index.ts'
import { openState, type State } from '../../src/state/index.ts'
import { journalContract } from './journal-contract.ts'

journalContract('memory', async (clock) => {
  const rows = new MemoryJournalRows()
  return {
    as: async (self) => new MemoryJournal(clock, createIds(), self, rows),
    [Symbol.asyncDispose]: async () => undefined,
  }
})

journalContract('sqlite, one file opened by several processes', async (clock) => {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-journal-'))
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
