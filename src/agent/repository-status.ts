import type { Catalog } from '../catalog/index.ts'
import type { FoundProblem, RenewalRecord, RepositoryChecks, RepositoryRenewals } from '../history/index.ts'
import { allReadSince } from './due-check.ts'

/** A repository as it was last looked at; moments are ISO 8601. Nothing of it is asked for now. */
export type RepositoryStatus = {
  readonly url: string
  /** As the catalog knows them. */
  readonly points: number
  /** Bytes of its packs, of those that no index names, and of blobs that no point needs; undefined: never measured, or not to be told. */
  readonly size:
    | { readonly at: string; readonly bytes: number; readonly unknownBytes: number; readonly unusedBytes?: number | undefined }
    | undefined
  /** The last whole look at its structure. */
  readonly structureAt: string | undefined
  /** Since when all of its data were read at least once. */
  readonly dataSince: string | undefined
  readonly problems: readonly FoundProblem[]
  /** How far the renewal of its Object Locks is; undefined where there is none. */
  readonly locks?: RenewalRecord | undefined
}

/** From the state database alone. */
export async function readRepositories(deps: {
  readonly checks: Pick<RepositoryChecks, 'all'>
  readonly renewals: Pick<RepositoryRenewals, 'all'>
  readonly catalog: Pick<Catalog, 'counts'>
}) {
  const points = await deps.catalog.counts()
  const [records, renewals] = [await deps.checks.all(), await deps.renewals.all()]
  return [...new Set([...records.keys(), ...renewals.keys()])].toSorted().map((url): RepositoryStatus => {
    const record = records.get(url)
    return {
      url,
      points: points.get(url) ?? 0,
      size: record?.size ?? undefined,
      structureAt: record?.structureAt ?? undefined,
      dataSince: record && allReadSince(record),
      problems: record?.problems ?? [],
      locks: renewals.get(url),
    }
  })
}
