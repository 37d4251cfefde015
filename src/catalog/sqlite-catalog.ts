import type { PointId, PointSummary } from '../core/index.ts'
import type { SqlValue, State, Statement } from '../state/index.ts'
import type { Catalog, PointQuery } from './catalog.ts'
import { findPoints } from './find-points.ts'
import { checkPrefix, columnsOf, pickPoint, readPoint } from './point-row.ts'

/** The catalog in the agent's database. */
export function openSqliteCatalog(state: State): Catalog {
  return new SqliteCatalog(state)
}

class SqliteCatalog implements Catalog {
  readonly #state: State
  readonly #sql: ReturnType<typeof prepare>
  /** By their text: one for each set of fields that was asked for. */
  readonly #finds = new Map<string, Statement<SqlValue[], PointSummary>>()

  constructor(state: State) {
    this.#state = state
    this.#sql = prepare(state)
  }

  async add(point: PointSummary): Promise<void> {
    this.#state.transaction('point catalogued', () => this.#put(point))
  }

  async get(id: string, repository?: string): Promise<PointSummary> {
    checkPrefix(id)
    return pickPoint(id, this.#sql.byPrefix.all(id, id, repository ?? null, repository ?? null))
  }

  async find(query: PointQuery): Promise<readonly PointSummary[]> {
    const { sql, values } = findPoints(query)
    let statement = this.#finds.get(sql)
    if (statement === undefined) this.#finds.set(sql, (statement = this.#state.statement<SqlValue[], PointSummary>(sql, readPoint)))
    return statement.all(...values)
  }

  async counts(): Promise<ReadonlyMap<string, number>> {
    return new Map(this.#sql.counts.all())
  }

  async remove(repository: string, id: PointId): Promise<void> {
    this.#state.transaction('point forgotten', () => this.#sql.remove.run(repository, id))
  }

  async rebuild(repository: string, points: AsyncIterable<PointSummary>): Promise<{ readonly added: number; readonly removed: number }> {
    const before = this.#sql.idsOf.all(repository)
    // Gathered first: the repository may take minutes to list, and the write lock must not be held meanwhile.
    const listed = new Map<string, PointSummary>()
    for await (const point of points) listed.set(point.id, { ...point, repository })
    return this.#state.transaction('catalog rebuilt', () => {
      const known = new Set(this.#sql.idsOf.all(repository))
      let removed = 0
      for (const id of before) if (!listed.has(id)) removed += this.#sql.remove.run(repository, id)
      for (const point of listed.values()) this.#put(point)
      return { added: [...listed.keys()].filter((id) => !known.has(id)).length, removed }
    })
  }

  #put(point: PointSummary): void {
    this.#sql.put.run(...columnsOf(point))
  }
}

type Pair = [string | null, string | null]

function prepare(state: State) {
  return {
    put: state.statement<SqlValue[]>(
      `INSERT OR REPLACE INTO point (repository, id, time, vm_name, instance_uuid, vcenter_uuid, mode, run, consistency, total_bytes,
         read_bytes, stored_bytes, not_protected) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    byPrefix: state.statement<[string, string, ...Pair], PointSummary>(
      // substr and not LIKE or GLOB: an archive's name may hold their wild cards.
      'SELECT * FROM point WHERE substr(id, 1, length(?)) = ? AND (? IS NULL OR repository = ?) ORDER BY time DESC, id LIMIT 50',
      readPoint,
    ),
    counts: state.statement<[], [string, number]>('SELECT repository, count(*) AS n FROM point GROUP BY repository', (row) => [
      row.text('repository'),
      row.integer('n'),
    ]),
    remove: state.statement<[string, string]>('DELETE FROM point WHERE repository = ? AND id = ?'),
    idsOf: state.statement<[string], string>('SELECT id FROM point WHERE repository = ?', (row) => row.text('id')),
  }
}
