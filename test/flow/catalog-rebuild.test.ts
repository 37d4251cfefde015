import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openSqliteCatalog } from '../../src/catalog/index.ts'
import { openState } from '../../src/state/index.ts'
import { type Json, type LabSession, openLabSession } from './lab-session.ts'

let session: LabSession
beforeAll(async () => {
  session = await openLabSession()
})
afterAll(() => session[Symbol.asyncDispose]())

const catalogued = async (state: string): Promise<readonly string[]> => {
  await using opened = await openState(join(state, 'state.sqlite'))
  return (await openSqliteCatalog(opened).find({})).map((point) => `${point.repository} ${point.vmName} ${point.id}`).toSorted()
}

test('a new proxy learns from the repositories what the lost state knew, and restores it', async () => {
  const other = join(session.directory, 'archives')
  await session.json(['init'])
  await session.json(['backup', 'web01,db01', '--mode', 'full'])
  await session.lab.control.write('web01', { records: 3 })
  const night = await session.json(['backup', 'web01'])
  await session.json(['backup', 'db01', '--repo', `tar:${other}`, '--init'])
  const state = session.environment['VCB_STATE_DIR'] ?? ''
  const before = await catalogued(state)
  expect(before).toHaveLength(4)

  // The state is gone with its proxy; the new one has the configuration.
  await rm(state, { recursive: true })
  const config = join(session.directory, 'vcb.yaml')
  await writeFile(config, JSON.stringify({ repositories: { archives: { url: `tar:${other}` }, away: { url: `tar:${other}-away` } } }))
  const all = await session.json(['points', '--rebuild', '--config', config], 12)
  expect(all.repositories.map(({ name, points, added, removed, error }: Json) => [name, points, added, removed, error?.code])).toEqual([
    ['default', 3, 3, 0, undefined],
    ['archives', 1, 1, 0, undefined],
    ['away', undefined, undefined, undefined, 'NOT_FOUND'],
  ])
  expect(await catalogued(state)).toEqual(before)
  await session.expectRight('web01', night.vms[0].point)

  // Points that somebody else removed leave the catalog of the repository that is asked, and of no other.
  const archives = (await readdir(other)).filter((name) => name.endsWith('.tar'))
  expect(archives).toHaveLength(1)
  for (const name of archives) await rm(join(other, name))
  expect((await session.json(['points', '--rebuild'])).repositories).toMatchObject([{ points: 3, added: 0, removed: 0 }])
  expect(await catalogued(state)).toEqual(before)
  const one = await session.vcb('points', '--rebuild', '--repo', `tar:${other}`)
  expect(one.out).toContain('0 points, of which 0 were not known; 1 that are gone were taken out.')
  expect(await catalogued(state)).toEqual(before.filter((line) => line.startsWith('restic:')))
  expect((await session.vcb('points', 'web01', '--rebuild')).exit).toBe(2)
  await session.expectClean()
})
