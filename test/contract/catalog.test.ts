import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openPgCatalog, openSqliteCatalog } from '../../src/catalog/index.ts'
import type { PointId, PointSummary, RunId } from '../../src/core/index.ts'
import { openState } from '../../src/state/index.ts'
import { describePeer } from '../peer.ts'
import { type Postgres, startPostgres } from '../postgres.ts'
import { catalogContract } from './catalog-contract.ts'
import { fastDirectory } from '../fast-directory.ts'

describe('in a file', () => {
  const stack = new AsyncDisposableStack()
  afterAll(() => stack.disposeAsync())
  catalogContract('the state file', async () => {
    const directory = await fastDirectory('vcb-catalog-')
    stack.defer(() => rm(directory, { recursive: true, force: true }))
    return openSqliteCatalog(stack.use(await openState(join(directory, 'state.db'))))
  })
})

describePeer('postgres', 'shared', (path) => {
  const stack = new AsyncDisposableStack()
  let server: Postgres
  beforeAll(async () => {
    server = stack.use(await startPostgres(path))
  })
  afterAll(() => stack.disposeAsync())
  catalogContract('PostgreSQL', async () => openPgCatalog(stack.use(await server.state())))

  it('is rebuilt by two proxies at once, with more points than one statement takes', async () => {
    const database = await server.database()
    const catalogs = [
      openPgCatalog(stack.use(await server.state({ database }))),
      openPgCatalog(stack.use(await server.state({ database }))),
    ]
    const point = (index: number): PointSummary => ({
      id: `point${index}` as PointId,
      repository: 'restic:/a',
      time: new Date(index * 1000).toISOString(),
      vmName: 'web01',
      instanceUuid: 'i1',
      vcenterUuid: 'vc',
      mode: 'full',
      run: 'run' as RunId,
      consistency: 'crash',
      totalBytes: 1,
      readBytes: 1,
      storedBytes: 2,
      notProtected: 0,
    })
    const listed = async function* (): AsyncGenerator<PointSummary> {
      for (let index = 0; index < 2500; index++) yield point(index)
    }
    const rebuilt = await Promise.all(catalogs.map((catalog) => catalog.rebuild('restic:/a', listed())))
    expect(rebuilt.map(({ added }) => added).toSorted((a, b) => a - b)).toEqual([0, 2500])
    expect(await catalogs[0]?.find({})).toHaveLength(2500)
  })
})
