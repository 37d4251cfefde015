import { beforeEach, describe, expect, it } from 'vitest'
import type { Catalog } from '../../src/catalog/index.ts'
import type { PointId, PointSummary, RunId } from '../../src/core/index.ts'

const point = (id: string, change: Partial<PointSummary> = {}): PointSummary => ({
  id: id as PointId,
  repository: 'restic:/a',
  time: '2026-11-22T18:00:00.000Z',
  vmName: 'web01',
  instanceUuid: 'i1',
  vcenterUuid: 'vc',
  mode: 'full',
  run: 'run' as RunId,
  consistency: 'crash',
  totalBytes: 2 ** 46,
  readBytes: 1,
  storedBytes: 2,
  notProtected: 0,
  ...change,
})
async function* listed(...points: PointSummary[]): AsyncGenerator<PointSummary> {
  for (const each of points) yield await Promise.resolve(each)
}

/** What every catalog promises; `open` gives an empty one. */
export function catalogContract(name: string, open: () => Promise<Catalog>): void {
  describe(`the catalog in ${name}`, () => {
    let catalog: Catalog
    beforeEach(async () => {
      catalog = await open()
    })

    it('gives back what it was given, and replaces what it knew', async () => {
      await catalog.add(point('aaaaaaaa'))
      expect(await catalog.get('aaaaaaaa')).toEqual(point('aaaaaaaa'))
      await catalog.add(point('aaaaaaaa', { storedBytes: 77 }))
      expect((await catalog.find({})).map(({ storedBytes }) => storedBytes)).toEqual([77])
    })

    it('finds newest first by every field, with a limit', async () => {
      await catalog.add(point('aaaaaaaa', { time: '2026-11-20T10:00:00+02:00' }))
      await catalog.add(point('bbbbbbbb', { time: '2026-11-20T09:00:00Z', vmName: "o'hara %_" }))
      await catalog.add(point('cccccccc', { time: '2026-11-21T09:00:00Z', instanceUuid: 'i2', repository: 'tar:/t' }))
      const ids = async (query: Parameters<Catalog['find']>[0]): Promise<string[]> => (await catalog.find(query)).map(({ id }) => id)
      expect(await ids({})).toEqual(['cccccccc', 'bbbbbbbb', 'aaaaaaaa'])
      expect(await ids({ limit: 2 })).toEqual(['cccccccc', 'bbbbbbbb'])
      expect(await ids({ vmName: "o'hara %_" })).toEqual(['bbbbbbbb'])
      expect(await ids({ instanceUuid: 'i1' })).toEqual(['bbbbbbbb', 'aaaaaaaa'])
      expect(await ids({ repository: 'tar:/t', vcenterUuid: 'vc' })).toEqual(['cccccccc'])
      expect(await ids({ since: '2026-11-20T08:30:00Z', until: '2026-11-20T10:00:00Z' })).toEqual(['bbbbbbbb'])
      expect(await ids({ until: '2026-11-20T08:00:00Z' })).toEqual(['aaaaaaaa'])
      await expect(catalog.find({ since: 'yesterday' })).rejects.toMatchObject({ code: 'USAGE' })
    })

    it('knows a point by an unambiguous beginning', async () => {
      await catalog.add(point('abcdef01'))
      await catalog.add(point('abcdef02'))
      await catalog.add(point('abcdef02', { repository: 'tar:/t' }))
      expect(await catalog.get('abcdef01')).toMatchObject({ id: 'abcdef01' })
      await expect(catalog.get('abcdef')).rejects.toMatchObject({ code: 'USAGE' })
      await expect(catalog.get('abcdef02')).rejects.toMatchObject({ code: 'USAGE' })
      expect(await catalog.get('abcdef02', 'tar:/t')).toMatchObject({ repository: 'tar:/t' })
      await expect(catalog.get('abc')).rejects.toMatchObject({ code: 'USAGE' })
      await expect(catalog.get('%%%%%%')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })

    it('forgets', async () => {
      await catalog.add(point('aaaaaaaa'))
      await catalog.remove('restic:/b', 'aaaaaaaa' as PointId)
      expect(await catalog.find({})).toHaveLength(1)
      expect(await catalog.counts()).toEqual(new Map([['restic:/a', 1]]))
      await catalog.remove('restic:/a', 'aaaaaaaa' as PointId)
      await catalog.remove('restic:/a', 'aaaaaaaa' as PointId)
      expect(await catalog.find({})).toEqual([])
    })

    it('is rebuilt from a repository, all of it or nothing, other repositories untouched', async () => {
      await catalog.add(point('aaaaaaaa'))
      await catalog.add(point('bbbbbbbb'))
      await catalog.add(point('tttttttt', { repository: 'tar:/t' }))
      const failing = async function* (): AsyncGenerator<PointSummary> {
        yield await Promise.resolve(point('dddddddd'))
        throw new Error('connection lost')
      }
      await expect(catalog.rebuild('restic:/a', failing())).rejects.toThrow('connection lost')
      expect(await catalog.find({ repository: 'restic:/a' })).toHaveLength(2)
      expect(await catalog.rebuild('restic:/a', listed(point('bbbbbbbb', { storedBytes: 9 }), point('cccccccc')))).toEqual({
        added: 1,
        removed: 1,
      })
      expect((await catalog.find({ repository: 'restic:/a' })).map(({ id }) => id).sort()).toEqual(['bbbbbbbb', 'cccccccc'])
      expect(await catalog.find({ repository: 'tar:/t' })).toHaveLength(1)
    })

    it('keeps what a backup adds while the repository is listed for a rebuild', async () => {
      await catalog.add(point('aaaaaaaa'))
      const slow = async function* (): AsyncGenerator<PointSummary> {
        yield await Promise.resolve(point('bbbbbbbb'))
        await catalog.add(point('cccccccc'))
      }
      expect(await catalog.rebuild('restic:/a', slow())).toEqual({ added: 1, removed: 1 })
      expect((await catalog.find({})).map(({ id }) => id).sort()).toEqual(['bbbbbbbb', 'cccccccc'])
    })
  })
}
