import { describe, expect, it } from 'vitest'
import type { PointId, RunId, RunRecord, VmRef } from '../../src/core/index.ts'
import type { JobVms, RepositoryPrunes, RunHistory } from '../../src/history/index.ts'

export type HistoryWorld = AsyncDisposable & { readonly history: RunHistory; readonly jobVms: JobVms; readonly prunes: RepositoryPrunes }

const vmNamed = (name: string, change: Partial<VmRef> = {}): VmRef => ({
  moref: `vm-${name}`,
  name,
  instanceUuid: `i-${name}`,
  biosUuid: `b-${name}`,
  vcenterUuid: 'vc',
  path: `/DC/vm/${name}`,
  ...change,
})

const at = (minute: number): string => new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString()

export const ranAt = (minute: number, change: Partial<RunRecord> = {}): RunRecord => ({
  run: `run${minute}` as RunId,
  job: 'nightly',
  vm: vmNamed('web'),
  mode: 'incremental',
  dueAt: at(minute),
  begunAt: at(minute),
  endedAt: at(minute),
  result: 'succeeded',
  error: undefined,
  point: `point${minute}` as PointId,
  repository: 'restic:/backup',
  consistency: 'crash',
  totalBytes: 2 ** 46,
  readBytes: 4096,
  storedBytes: 1024,
  snapshotLifetimeMs: 700,
  frozenMs: undefined,
  notProtected: [{ what: 'scsi0:1', reason: 'it is an independent disk' }],
  warnings: ['a “warning” with\nlines'],
  ...change,
})

/** What every place promises where the history of runs is kept. `open`: an empty one. */
export function runHistoryContract(name: string, open: () => Promise<HistoryWorld>): void {
  const runsOf = (records: readonly RunRecord[]): readonly string[] => records.map(({ run, vm }) => `${run} ${vm.name}`)

  describe(`the history of runs in ${name}`, () => {
    it('gives back what was added, the last one ended first', async () => {
      await using world = await open()
      const { history } = world
      const failed = ranAt(2, {
        job: undefined,
        dueAt: undefined,
        mode: undefined,
        point: undefined,
        consistency: undefined,
        result: 'failed',
        error: { code: 'UNAVAILABLE', message: 'Away.', next: 'Wait.' },
      })
      // Begun earlier and ended later: its end counts.
      const long = ranAt(0, { endedAt: at(9) })
      for (const record of [ranAt(1), failed, long]) await history.add(record)
      expect(await history.find({})).toEqual([long, failed, ranAt(1)])
      expect(runsOf(await history.find({ limit: 2 }))).toEqual(['run0 web', 'run2 web'])
    })

    it('adds a run of a VM once, and the runs of the other VMs beside it', async () => {
      await using world = await open()
      const { history } = world
      await history.add(ranAt(1))
      await history.add(ranAt(1, { result: 'failed' }))
      await history.add(ranAt(1, { vm: vmNamed('db') }))
      await history.add(ranAt(1, { vm: vmNamed('web', { vcenterUuid: 'other' }) }))
      const all = await history.find({})
      expect(all).toHaveLength(3)
      expect(all.every(({ result }) => result === 'succeeded')).toBe(true)
    })

    it('finds by job, VM, result and time', async () => {
      await using world = await open()
      const { history } = world
      const other = vmNamed('db')
      await history.add(ranAt(1))
      await history.add(ranAt(2, { vm: other }))
      await history.add(ranAt(3, { job: 'hourly', vm: other, result: 'canceled' }))
      await history.add(ranAt(4, { job: undefined, result: 'failed' }))
      await history.add(ranAt(5, { vm: vmNamed('web', { instanceUuid: 'twin', moref: 'vm-9', path: '/DC/vm/x/web' }) }))
      const found = async (query: Parameters<RunHistory['find']>[0]): Promise<readonly string[]> => runsOf(await history.find(query))
      expect(await found({ job: 'hourly' })).toEqual(['run3 db'])
      expect(await found({ vm: 'web' })).toEqual(['run5 web', 'run4 web', 'run1 web'])
      for (const vm of ['/DC/vm/x/web', 'twin', 'vm-9']) expect(await found({ vm })).toEqual(['run5 web'])
      expect(await found({ vmId: { vcenterUuid: 'vc', instanceUuid: 'i-web' } })).toEqual(['run4 web', 'run1 web'])
      expect(await found({ vmId: { vcenterUuid: 'another', instanceUuid: 'i-web' } })).toEqual([])
      expect(await found({ result: 'failed' })).toEqual(['run4 web'])
      expect(await found({ since: new Date(at(2)), until: new Date(at(4)) })).toEqual(['run3 db', 'run2 db'])
      expect(await found({ vm: "'; DROP TABLE run; --" })).toEqual([])
    })

    it('forgets what is older, but never the last ones', async () => {
      await using world = await open()
      const { history } = world
      for (let minute = 0; minute < 10; minute++) await history.add(ranAt(minute))
      expect(await history.prune(new Date(at(0)), 0)).toBe(0)
      expect(await history.prune(new Date(at(4)), 8)).toBe(2)
      expect((await history.find({})).length).toBe(8)
      expect(await history.prune(new Date(at(59)), 3)).toBe(5)
      expect(runsOf(await history.find({}))).toEqual(['run9 web', 'run8 web', 'run7 web'])
    })
  })

  describe(`the VMs that jobs know in ${name}`, () => {
    it('are known since they were seen first, for each job by itself', async () => {
      await using world = await open()
      const { jobVms } = world
      const [web, db] = [vmNamed('web'), vmNamed('db')]
      const known = async (job: string, vms: readonly VmRef[], minute: number): Promise<readonly string[]> =>
        (await jobVms.known(job, vms, new Date(at(minute)))).map((date) => date.toISOString())
      expect(await known('nightly', [web], 1)).toEqual([at(1)])
      expect(await known('nightly', [web, db], 2)).toEqual([at(1), at(2)])
      expect(await known('hourly', [web], 3)).toEqual([at(3)])
      expect(await known('nightly', [db, web], 4)).toEqual([at(2), at(1)])
      // Who was gone is new when it comes back.
      expect(await known('nightly', [db], 5)).toEqual([at(2)])
      expect(await known('nightly', [db, web], 6)).toEqual([at(2), at(6)])
    })
  })

  describe('prunes of repositories', () => {
    it('are known by the last moment that was noted, whatever the order', async () => {
      await using world = await open()
      const { prunes } = world
      const last = async (url: string): Promise<string | undefined> => (await prunes.last(url))?.toISOString()
      expect(await last('restic:/backup')).toBeUndefined()
      await prunes.note('restic:/backup', new Date(at(5)))
      await prunes.note('restic:/backup', new Date(at(3)))
      await prunes.note('restic:/other', new Date(at(4)))
      expect([await last('restic:/backup'), await last('restic:/other')]).toEqual([at(5), at(4)])
      await prunes.note('restic:/backup', new Date(at(6)))
      expect(await last('restic:/backup')).toBe(at(6))
    })
  })
}
