import type { BackupMode, PointSummary, VmRef } from '../core/index.ts'
import type { VmRecord } from '../schedule/index.ts'
import type { Agent } from './agent.ts'

/** What is known of earlier backups of VMs, as of a moment. */
export interface VmHistory {
  /** Of one VM in one repository. */
  recordOf(vm: VmRef, repository: string): Promise<VmRecord>
  /** How long its runs took, the average of the last ones, ms; undefined where none of this mode is known. */
  tookMs(vm: VmRef, mode: BackupMode): number | undefined
}

/** As many points are enough to find the last full one, but for who has none for so long. */
const POINTS = 200
/** As many finished jobs as the journal keeps. */
const JOBS = 1000
/** So many of the last runs say how long the next one takes. */
const RUNS = 5

/** From the catalog (points) and the journal (how long jobs took); what is later than `at` does not count. */
export async function openVmHistory(agent: Pick<Agent, 'catalog' | 'journal'>, at: Date): Promise<VmHistory> {
  const modes = await modesByRun(agent, at)
  const took = new Map<string, number[]>()
  for (const { kind, args, begunAt, finishedAt, outcome } of await agent.journal.finished(JOBS)) {
    const { run, vm } = args as { readonly run?: string; readonly vm?: VmRef }
    if (kind !== 'backup' || outcome.result !== 'succeeded' || run === undefined || vm === undefined || begunAt > at) continue
    const mode = modes.get(`${run} ${vm.instanceUuid}`)
    if (mode === undefined) continue
    const key = keyOf(vm, mode)
    took.set(key, [...(took.get(key) ?? []), finishedAt.getTime() - begunAt.getTime()])
  }
  return {
    recordOf: async (vm, repository) => {
      const query = { instanceUuid: vm.instanceUuid, vcenterUuid: vm.vcenterUuid, until: at.toISOString() }
      const here = (points: readonly PointSummary[]) => points.filter((point) => placeOf(point.repository) === placeOf(repository))
      const isFull = ({ mode }: PointSummary): boolean => mode === 'full'
      let points = here(await agent.catalog.find({ ...query, limit: POINTS }))
      if (points.length > 0 && !points.some(isFull)) points = here(await agent.catalog.find(query))
      const timeOf = (point: PointSummary | undefined): number | undefined => (point === undefined ? undefined : Date.parse(point.time))
      const lastGoodAt = timeOf(points[0])
      return {
        vm,
        knownSince: lastGoodAt ?? at.getTime(),
        lastGoodAt,
        lastFullAt: timeOf(points.find(isFull)),
        runs: [],
        expectMs: averageOf(took.get(keyOf(vm, 'incremental'))) ?? averageOf(took.get(keyOf(vm, 'full'))),
      }
    },
    tookMs: (vm, mode) => averageOf(took.get(keyOf(vm, mode))),
  }
}

/** Which mode a run had for a VM: the journal does not say. */
async function modesByRun({ catalog }: Pick<Agent, 'catalog'>, at: Date): Promise<ReadonlyMap<string, BackupMode>> {
  const points = await catalog.find({ until: at.toISOString(), limit: 2 * JOBS })
  return new Map(points.map(({ run, instanceUuid, mode }) => [`${run} ${instanceUuid}`, mode]))
}

const keyOf = ({ vcenterUuid, instanceUuid }: VmRef, mode: BackupMode): string => `${vcenterUuid}/${instanceUuid} ${mode}`

/** The catalog names a restic repository with its kind, the configuration as it likes. */
const placeOf = (url: string): string => url.replace(/^restic:/u, '')

function averageOf(all: readonly number[] | undefined): number | undefined {
  const last = (all ?? []).slice(0, RUNS)
  return last.length === 0 ? undefined : Math.round(last.reduce((sum, each) => sum + each, 0) / last.length)
}
