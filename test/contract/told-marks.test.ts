import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ProcessIdentity, Processes } from '../../src/journal/index.ts'
import { openPgToldMarks, openSqliteToldMarks, Teller, type ToldMarks } from '../../src/notices/index.ts'
import { openState } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'

type MarksWorld = AsyncDisposable & { readonly marks: ToldMarks }

/* What every `ToldMarks` does, and who of several agents tells by them. */
function toldMarksContract(name: string, open: () => Promise<MarksWorld>): void {
  describe(`told marks in ${name}`, () => {
    test('change only from what they are thought to be', async () => {
      await using world = await open()
      const { marks } = world
      expect(await marks.get('a')).toBeUndefined()
      expect(await marks.change('a', 'x', 'y')).toBe(false)
      expect(await marks.change('a', undefined, '1')).toBe(true)
      expect(await marks.change('a', undefined, '2')).toBe(false)
      expect(await marks.change('a', '0', '2')).toBe(false)
      expect(await marks.get('a')).toBe('1')
      expect(await marks.change('a', '1', '2 ✓')).toBe(true)
      expect(await marks.get('a')).toBe('2 ✓')
      expect(await marks.get('A')).toBeUndefined()
    })

    test('of many that change one at the same time one does', async () => {
      await using world = await open()
      for (const before of [undefined, 'first'] as const) {
        const after = before === undefined ? ['first'] : ['a', 'b', 'c', 'd', 'e']
        const all = before === undefined ? Array.from({ length: 5 }, () => 'first') : after
        const changed = await Promise.all(all.map((each) => world.marks.change('one', before, each)))
        expect(changed.filter((each) => each)).toHaveLength(1)
        expect(after).toContain(await world.marks.get('one'))
      }
    })

    test('one agent tells a thing as long as it lives; then one of the others does', async () => {
      await using world = await open()
      const dead = new Set<number>()
      const agent = (pid: number): Teller => {
        const self: ProcessIdentity = { pid, bootId: 'b', startTime: pid }
        const processes: Processes = { self: async () => self, isAlive: async (other) => !dead.has(other.pid) }
        return new Teller(world.marks, processes)
      }
      const agents = [agent(1), agent(2), agent(3)]
      const tellers = async (): Promise<readonly number[]> => {
        const mine = await Promise.all(agents.map((each) => each.isMine('report office')))
        return mine.flatMap((is, index) => (is ? [index + 1] : []))
      }
      const [first = 0, ...more] = await tellers()
      expect(more).toEqual([])
      expect(await tellers()).toEqual([first])
      dead.add(first)
      const others = agents.filter((_, index) => index + 1 !== first)
      const now = await Promise.all(others.map((each) => each.isMine('report office')))
      expect(now.filter((is) => is)).toHaveLength(1)
      expect(await agents[first - 1]?.isMine('report office')).toBe(false)
      // Each thing has its own.
      expect(await agents[first - 1]?.isMine('report chat')).toBe(true)
    })
  })
}

toldMarksContract('SQLite', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'vcb-told-'))
  const state = await openState(join(directory, 'state.sqlite'))
  return {
    marks: openSqliteToldMarks(state),
    [Symbol.asyncDispose]: async () => {
      await state[Symbol.asyncDispose]()
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
  toldMarksContract('PostgreSQL', async () => {
    const state = await server.state()
    return { marks: openPgToldMarks(state), [Symbol.asyncDispose]: () => state[Symbol.asyncDispose]() }
  })
})
