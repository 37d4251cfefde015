import type { PointId, PointSummary } from '../core/index.ts'
import type { SqlValue, State } from '../state/index.ts'
import type { Catalog, PointQuery } from './catalog.ts'
import { checkPrefix, columnsOf, normalTime, pickPoint, readPoint } from './point-row.ts'

/** More rows than any list wants; a query without a limit stops there. */
const MOST = 1_000_000

/** The catalog in the agent's database. */
export function openSqliteCatalog(state: State): Catalog {
  return new SqliteCatalog(state)
}

class SqliteCatalog implements Catalog {
  readonly #state: State
  readonly #sql: ReturnType<typeof prepare>

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
    const equal = (value: string | undefined): [string | null, string | null] => [value ?? null, value ?? null]
    return this.#sql.find.all(
      ...equal(query.vmName),
      ...equal(query.instanceUuid),
      ...equal(query.vcenterUuid),
      ...equal(query.repository),
      ...equal(query.since === undefined ? undefined : normalTime(query.since)),
      ...equal(query.until === undefined ? undefined : normalTime(query.until)),
      query.limit ?? MOST,
    )
  }

  async remove(repository: string, id: PointId): Promise<void> {
    this.#state.transaction('point forgotten', () => this.#sql.remove.run(repository, id))
  }

  async rebuild(repository: string, points: AsyncIterable<PointSummary>): Promise<{ readonly added: number; readonly removed: number }> {
    // Gathered first: the repository may take minutes to list, and the write lock must not be held meanwhile.
    const listed = new Map<string, PointSummary>()
    for await (const point of points) listed.set(point.id, { ...point, repository })
    return this.#state.transaction('catalog rebuilt', () => {
      const known = new Set(this.#sql.idsOf.all(repository))
      this.#sql.clear.run(repository)
      for (const point of listed.values()) this.#put(point)
      const added = [...listed.keys()].filter((id) => !known.has(id)).length
      return { added, removed: known.size - (listed.size - added) }
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
    find: state.statement<[...Pair, ...Pair, ...Pair, ...Pair, ...Pair, ...Pair, number], PointSummary>(
      `SELECT * FROM point WHERE (? IS NULL OR vm_name = ?) AND (? IS NULL OR instance_uuid = ?) AND (? IS NULL OR vcenter_uuid = ?)
         AND (? IS NULL OR repository = ?) AND (? IS NULL OR time >= ?) AND (? IS NULL OR time <= ?)
       ORDER BY time DESC, id LIMIT ?`,
      readPoint,
    ),
    remove: state.statement<[string, string]>('DELETE FROM point WHERE repository = ? AND id = ?'),
    clear: state.statement<[string]>('DELETE FROM point WHERE repository = ?'),
    idsOf: state.statement<[string], string>('SELECT id FROM point WHERE repository = ?', (row) => row.text('id')),
  }
}
