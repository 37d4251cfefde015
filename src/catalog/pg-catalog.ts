import type { PointId, PointSummary } from '../core/index.ts'
import { numbered, type PgSession, type PgState, pgStatement, type PgValue } from '../state/index.ts'
import type { Catalog, PointQuery } from './catalog.ts'
import { findPoints } from './find-points.ts'
import { checkPrefix, columnsOf, pickPoint, POINT_COLUMNS, readPoint } from './point-row.ts'

/** Points put in by one statement. */
const AT_ONCE = 1000

/** The catalog in the database that several proxies share. */
export function openPgCatalog(state: PgState): Catalog {
  return new PgCatalog(state)
}

class PgCatalog implements Catalog {
  readonly #state: PgState

  constructor(state: PgState) {
    this.#state = state
  }

  add(point: PointSummary): Promise<void> {
    return this.#state.transaction('point catalogued', (session) => put(session, [point]))
  }

  async get(id: string, repository?: string): Promise<PointSummary> {
    checkPrefix(id)
    return pickPoint(id, await this.#state.all(SQL.byPrefix, id, repository ?? null))
  }

  async find(query: PointQuery): Promise<readonly PointSummary[]> {
    const { sql, values } = findPoints(query)
    return this.#state.all(pgStatement<PgValue[], PointSummary>(numbered(sql), readPoint), ...values)
  }

  async counts(): Promise<ReadonlyMap<string, number>> {
    return new Map(await this.#state.all(SQL.counts))
  }

  async remove(repository: string, id: PointId): Promise<void> {
    await this.#state.transaction('point forgotten', (session) => session.run(SQL.remove, repository, id))
  }

  async rebuild(repository: string, points: AsyncIterable<PointSummary>): Promise<{ readonly added: number; readonly removed: number }> {
    const before = await this.#state.all(SQL.idsOf, repository)
    // Gathered first: the repository may take minutes to list, and a transaction must not stay open meanwhile.
    const listed = new Map<string, PointSummary>()
    for await (const point of points) listed.set(point.id, { ...point, repository })
    const gone = before.filter((id) => !listed.has(id))
    const change = async (session: PgSession): Promise<{ readonly added: number; readonly removed: number }> => {
      const known = new Set(await session.all(SQL.idsOf, repository))
      const removed = await session.run(SQL.removeAll, repository, gone)
      const all = [...listed.values()]
      for (let at = 0; at < all.length; at += AT_ONCE) await put(session, all.slice(at, at + AT_ONCE))
      return { added: [...listed.keys()].filter((id) => !known.has(id)).length, removed }
    }
    return this.#state.transaction('catalog rebuilt', change, { lock: `catalog of ${repository}` })
  }
}

const put = async (session: PgSession, points: readonly PointSummary[]): Promise<void> => {
  const rows = points.map(columnsOf)
  const columns = Array.from({ length: 13 }, (_, column) => rows.map((row) => String(row[column])))
  await session.run(SQL.put, ...columns)
}

const SQL = {
  put: pgStatement<PgValue[]>(
    `INSERT INTO point (${POINT_COLUMNS})
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[],
       $11::bigint[], $12::bigint[], $13::bigint[])
     ON CONFLICT (repository, id) DO UPDATE SET time = excluded.time, vm_name = excluded.vm_name, instance_uuid = excluded.instance_uuid,
       vcenter_uuid = excluded.vcenter_uuid, mode = excluded.mode, run = excluded.run, consistency = excluded.consistency,
       total_bytes = excluded.total_bytes, read_bytes = excluded.read_bytes, stored_bytes = excluded.stored_bytes,
       not_protected = excluded.not_protected`,
  ),
  byPrefix: pgStatement<[string, string | null], PointSummary>(
    // Not LIKE: an archive's name may hold its wild cards.
    'SELECT * FROM point WHERE starts_with(id, $1) AND ($2::text IS NULL OR repository = $2) ORDER BY time DESC, id LIMIT 50',
    readPoint,
  ),
  counts: pgStatement<[], [string, number]>('SELECT repository, count(*) AS n FROM point GROUP BY repository', (row) => [
    row.text('repository'),
    row.integer('n'),
  ]),
  remove: pgStatement<[string, string]>('DELETE FROM point WHERE repository = $1 AND id = $2'),
  removeAll: pgStatement<[string, readonly string[]]>('DELETE FROM point WHERE repository = $1 AND id = ANY($2::text[])'),
  idsOf: pgStatement<[string], string>('SELECT id FROM point WHERE repository = $1', (row) => row.text('id')),
}
