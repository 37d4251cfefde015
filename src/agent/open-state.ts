import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { type Catalog, openPgCatalog, openSqliteCatalog } from '../catalog/index.ts'
import { type AgentId, type Clock, type Effect, fenceEffects, fromErrno, type Ids, type Log } from '../core/index.ts'
import { openPgToldMarks, openSqliteToldMarks, type ToldMarks } from '../notices/index.ts'
import {
  type JobVms,
  openPgJobVms,
  openPgRepositoryChecks,
  openPgRepositoryPrunes,
  openPgRepositoryRenewals,
  openPgRunHistory,
  openSqliteJobVms,
  openSqliteRepositoryChecks,
  openSqliteRepositoryPrunes,
  openSqliteRepositoryRenewals,
  openSqliteRunHistory,
  type RepositoryChecks,
  type RepositoryPrunes,
  type RepositoryRenewals,
  type RunHistory,
} from '../history/index.ts'
import {
  createProxyProcesses,
  type Journal,
  openSqliteJournal,
  PgJournal,
  PgVmLocks,
  type Processes,
  type ProcessLookup,
  SqliteVmLocks,
  systemProcesses,
  type VmLocks,
} from '../journal/index.ts'
import {
  createProxyDrains,
  createProxyRegistry,
  openPgState,
  openState,
  type PgAccess,
  type ProxyDrains,
  type ProxyRegistry,
} from '../state/index.ts'
import { type Buckets, createPgBuckets, createSharedBuckets } from '../transport/index.ts'
import type { AgentConfig } from './config/config.ts'
import { readSecret } from './config/secret-source.ts'
import type { SharedStateConfig } from './config/state.ts'

/** The journal and the catalog, in the state directory. */
export const STATE_FILE = 'state.sqlite'

/** What several proxies know of each other. */
export type SharedProxies = {
  readonly registry: ProxyRegistry
  readonly drains: ProxyDrains
  readonly shown: string
  readonly access: PgAccess
  /** As of `OpenedState`. */
  readonly fenced: AbortSignal
}

/** What an installation remembers, wherever it does. */
export type OpenedState = {
  readonly journal: Journal
  readonly locks: VmLocks
  readonly catalog: Catalog
  readonly history: RunHistory
  readonly jobVms: JobVms
  readonly toldMarks: ToldMarks
  readonly prunes: RepositoryPrunes
  readonly checks: RepositoryChecks
  readonly renewals: RepositoryRenewals
  readonly buckets: Buckets
  readonly processes: Processes & ProcessLookup
  /** Undefined where this proxy is alone. */
  readonly proxies: SharedProxies | undefined
  /** Aborts when this process must stop: other proxies may release what it holds. Never where it is alone. */
  readonly fenced: AbortSignal | undefined
  /** Name of this machine in the journal of several; undefined where this proxy is alone. */
  readonly host: string | undefined
}

export type OpenStateParts = {
  readonly clock: Clock
  readonly log: Log
  readonly ids: Ids
  readonly agent: AgentId
  /** `agent` takes work of the queue. */
  readonly kind: 'agent' | 'command'
  /** There has been a state file before. */
  readonly known: boolean
}

/** The state of `config`: a file of this proxy, or the database it shares. What is opened is put on `stack`. */
export function openAgentState(config: AgentConfig, parts: OpenStateParts, stack: AsyncDisposableStack): Promise<OpenedState> {
  return config.sharedState === undefined ? openOwn(config, parts, stack) : openShared(config, config.sharedState, parts, stack)
}

async function openOwn(config: AgentConfig, { clock, log, ids, known }: OpenStateParts, stack: AsyncDisposableStack): Promise<OpenedState> {
  const processes = systemProcesses
  const state = stack.use(await openState(join(config.stateDirectory, STATE_FILE), { known }))
  return {
    journal: await openSqliteJournal({ state, clock, ids, processes }),
    locks: new SqliteVmLocks({ state, clock, processes }),
    catalog: openSqliteCatalog(state),
    history: openSqliteRunHistory(state),
    jobVms: openSqliteJobVms(state),
    toldMarks: openSqliteToldMarks(state),
    prunes: openSqliteRepositoryPrunes(state),
    checks: openSqliteRepositoryChecks(state),
    renewals: openSqliteRepositoryRenewals(state),
    buckets: createSharedBuckets({ state, clock, log, owners: processes }),
    processes,
    proxies: undefined,
    fenced: undefined,
    host: undefined,
  }
}

async function openShared(
  config: AgentConfig,
  shared: SharedStateConfig,
  { clock, log, ids, agent, kind }: OpenStateParts,
  stack: AsyncDisposableStack,
): Promise<OpenedState> {
  const access = await accessOf(shared)
  const { name, sites } = config.proxy
  const state = stack.use(await openPgState({ ...access, clock, log, name }))
  const registry = createProxyRegistry({ state, clock, log })
  const self = await systemProcesses.self()
  const host = hostname()
  const own = stack.use(await registry.register({ ...self, agent, name, kind, sites, transports: config.transports, host }))
  stack.use(fenceEffects((one) => (isOwnAffair(one) ? undefined : own.refusal())))
  const { epoch, fenced } = own
  const processes = createProxyProcesses(registry, clock)
  return {
    journal: new PgJournal({ state, clock, ids, self, epoch, host }),
    locks: new PgVmLocks({ state, clock, processes }),
    catalog: openPgCatalog(state),
    history: openPgRunHistory(state),
    jobVms: openPgJobVms(state),
    toldMarks: openPgToldMarks(state),
    prunes: openPgRepositoryPrunes(state),
    checks: openPgRepositoryChecks(state),
    renewals: openPgRepositoryRenewals(state),
    buckets: createPgBuckets({ state, clock, log, epoch }),
    processes,
    proxies: { registry, drains: createProxyDrains(state), shown: state.shown, access, fenced },
    fenced,
    host,
  }
}

/**
 * What a fenced process may still do: rows of the database, which knows who is dead; ending what it started itself; and leaving vSphere, which takes with it
 * what the session was waiting for.
 */
const isOwnAffair = ({ kind, what }: Effect): boolean =>
  kind === 'row' || (kind === 'process' && what.startsWith('end ')) || (kind === 'call' && what === 'Logout')

async function accessOf({ address, password, caFile }: SharedStateConfig): Promise<PgAccess> {
  const isGiven = password.file !== undefined || password.env !== undefined
  return {
    address,
    password: isGiven ? () => readSecret(password, 'password of the state database', 'state.passwordFile') : undefined,
    ca: caFile === undefined ? undefined : await readAuthority(caFile),
  }
}

async function readAuthority(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}
