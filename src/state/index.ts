/**
 * Rank 1. The agent's database: one SQLite file (WAL, full synchronisation), opened with its numbered migrations, and a thin typed layer
 * over statements. No ORM, no table is read here: `journal/`, `catalog/` and `transport/` own theirs.
 *
 * A transaction that has returned is on disk. Several processes may have the file open; writers queue for a bounded time.
 * The file is never the only copy of anything: the catalog is rebuilt from repositories, and what the agent holds in vSphere carries its
 * claim id, so a lost file can be replaced by an empty one and a search.
 *
 * Where several proxies work together they share a PostgreSQL database instead: `PgState`, the same idea with promises, and `ProxyRegistry`, who of them is alive.
 */
export { hasAgentId, openAgentId } from './agent-id.ts'
export { Conditions, numbered } from './conditions.ts'
export { parsePgAddress, type PgAddress } from './pg-address.ts'
export type { PgAccess } from './pg-pool.ts'
export { openPgQueue, type OpenPgQueueOptions } from './pg-queue.ts'
export { openPgState, type OpenPgStateOptions, type PgChange, type PgState } from './pg-state.ts'
export { type PgSession, type PgStatement, pgStatement, type PgValue } from './pg-statement.ts'
export { createProxyDrains, type ProxyDrain, type ProxyDrains } from './proxy-drains.ts'
export {
  assertAlive,
  createProxyRegistry,
  type OwnEpoch,
  type ProxyEpoch,
  type ProxyProcess,
  type ProxyRegistry,
  type ProxyTimes,
  type RegisteredProxy,
} from './proxy-registry.ts'
export { setStateAside } from './set-aside.ts'
export { LockEndsFile, openLockEnds } from './lock-ends.ts'
export { openState, type OpenStateOptions, type State } from './state.ts'
export { Row, type SqlValue, type Statement } from './statement.ts'
export { HEARTBEAT_S, type TakenWork, type WorkItem, type WorkQueue } from './work-queue.ts'
