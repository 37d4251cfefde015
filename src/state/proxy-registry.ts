import { AgentError, type Clock, type Log, sinceBootMs, toAgentError } from '../core/index.ts'
import type { PgState } from './pg-state.ts'
import { type PgSession, pgStatement } from './pg-statement.ts'
import type { Row } from './statement.ts'

/** One life of one process of a proxy; never given twice. */
export type ProxyEpoch = number & { readonly brand: 'ProxyEpoch' }

/** A process as its own machine knows it, and what it announces. */
export type ProxyProcess = {
  /** Id of the installation. */
  readonly agent: string
  /** As it is shown and drained: the name of the proxy. */
  readonly name: string
  /** `agent` takes work of the queue; `command` does what a person asked for. */
  readonly kind: 'agent' | 'command'
  /** Sites whose VMs it backs up; undefined: all. */
  readonly sites: readonly string[] | undefined
  readonly transports: readonly string[]
  readonly host: string
  readonly pid: number
  readonly bootId: string
  readonly startTime: number
}

export type RegisteredProxy = ProxyProcess & {
  readonly epoch: ProxyEpoch
  readonly begunAt: Date
  /** By the database's clock. */
  readonly beatAt: Date
  /** `alive` until somebody declared it dead, however long its last beat is ago; `gone`: it ended in order. */
  readonly state: 'alive' | 'dead' | 'gone'
}

/** A proxy says so often that it lives. Milliseconds. */
export const BEAT_MS = 5_000
/** Silent for so long, by the database's clock, it may be declared dead. Milliseconds. */
export const DEAD_AFTER_MS = 30_000
/**
 * A proxy that reached the database last so long ago, by its own clock, stops of its own accord: others may soon release what it holds. The rest up to
 * DEAD_AFTER_MS is its time to stop. Milliseconds.
 */
export const FENCE_AFTER_MS = 20_000

/** Times other than those above, for tests. */
export type ProxyTimes = { readonly beatMs: number; readonly deadAfterMs: number; readonly fenceAfterMs: number }

/**
 * Which processes of which proxies work on the shared database. Alive is who beats; dead is who was declared dead after DEAD_AFTER_MS of silence, by the
 * database's clock. Dead is final for the epoch: a process that was only slow finds itself dead and stops.
 */
export interface ProxyRegistry {
  /** Writes this process down and keeps beating until it is disposed, which writes it down as gone. Once per process. */
  register(self: ProxyProcess): Promise<OwnEpoch>
  /** Every epoch that is not over, and those that ended within the last day; oldest first. */
  list(): Promise<readonly RegisteredProxy[]>
  /** False only when it is certain: declared dead, or ended, or never there. Silence alone is not enough. */
  isAlive(epoch: ProxyEpoch): Promise<boolean>
  /** The same for a process as its machine names it: false also for one that never registered. */
  isProcessAlive(process: Pick<ProxyProcess, 'pid' | 'bootId' | 'startTime'>): Promise<boolean>
  /** Declares dead who has been silent for too long; those that are dead by this call. Any proxy calls it, every BEAT_MS. */
  declareDead(): Promise<readonly RegisteredProxy[]>
}

export interface OwnEpoch extends AsyncDisposable {
  readonly epoch: ProxyEpoch
  /** Aborts, with CANCELED, when this process has to stop touching anything shared: it was declared dead, or may be soon. */
  readonly fenced: AbortSignal
  /** The reason of the fence, or nothing: looked at now, for who is about to change something. A process that was stopped for a minute has not been told yet. */
  refusal(): AgentError | undefined
  /** One beat now, beside those by themselves. CANCELED when this epoch is dead. */
  beat(): Promise<void>
}

/**
 * For a transaction that must not be a dead process's: holds the epoch's row until the end of the transaction, so that nobody declares it dead
 * meanwhile. CANCELED when it is over.
 */
export async function assertAlive(session: PgSession, epoch: ProxyEpoch): Promise<void> {
  if ((await session.get(SQL.hold, epoch)) !== 'alive') throw declaredDead(epoch)
}

const declaredDead = (epoch: ProxyEpoch): AgentError =>
  new AgentError('CANCELED', `This process (epoch ${epoch}) was declared dead by another proxy, which takes over its work.`, {
    next: 'Nothing has to be done if the machine was only slow; look why its beat stayed away for half a minute.',
  })

export type ProxyRegistryParts = {
  readonly state: PgState
  readonly clock: Clock
  readonly log: Log
  readonly times?: Partial<ProxyTimes> | undefined
  /** Counts while the machine is suspended, too; that of the core by default. */
  readonly sinceBootMs?: (() => number) | undefined
}

export function createProxyRegistry(parts: ProxyRegistryParts): ProxyRegistry {
  const { state, clock, log } = parts
  const uptimeMs = parts.sinceBootMs ?? sinceBootMs
  const times: ProxyTimes = { beatMs: BEAT_MS, deadAfterMs: DEAD_AFTER_MS, fenceAfterMs: FENCE_AFTER_MS, ...parts.times }
  return Object.freeze({
    register: async ({ agent, name, kind, sites, transports, host, pid, bootId, startTime }) => {
      const asked = momentOf(clock, uptimeMs)
      const epoch = await state.transaction('proxy registered', async (session) => {
        await session.run(SQL.forget)
        return session.get(SQL.register, agent, host, pid, bootId, startTime, name, kind, listText(sites), transports.join(' '))
      })
      if (epoch === undefined) throw new AgentError('INTERNAL', 'The state database gave no epoch.')
      return new BeatingEpoch(state, clock, uptimeMs, log, times, epoch, asked)
    },
    list: () => state.all(SQL.list),
    isAlive: async (epoch) => (await state.get(SQL.state, epoch)) === 'alive',
    isProcessAlive: async ({ pid, bootId, startTime }) => (await state.get(SQL.ofProcess, pid, bootId, startTime)) === 'alive',
    declareDead: async () => {
      // Looked at first: hardly ever is there one, and then nothing is changed.
      if ((await state.get(SQL.silent, times.deadAfterMs)) === undefined) return []
      return state.transaction('proxy declared dead', (session) => session.all(SQL.declareDead, times.deadAfterMs))
    },
  } satisfies ProxyRegistry)
}

/** By a clock that is exact, and by one that goes on while the machine is suspended. */
type Moment = { readonly monotonicMs: number; readonly uptimeMs: number }

const momentOf = (clock: Clock, uptimeMs: () => number): Moment => ({ monotonicMs: clock.monotonicMs(), uptimeMs: uptimeMs() })

class BeatingEpoch implements OwnEpoch {
  readonly epoch: ProxyEpoch
  readonly #state: PgState
  readonly #clock: Clock
  readonly #uptimeMs: () => number
  readonly #log: Log
  readonly #times: ProxyTimes
  readonly #fence = new AbortController()
  readonly #timers = new DisposableStack()
  /** When the last beat that arrived was sent, by both own clocks. */
  #lastBeat: Moment

  constructor(state: PgState, clock: Clock, uptimeMs: () => number, log: Log, times: ProxyTimes, epoch: ProxyEpoch, asked: Moment) {
    this.epoch = epoch
    this.#state = state
    this.#clock = clock
    this.#uptimeMs = uptimeMs
    this.#log = log
    this.#times = times
    this.#lastBeat = asked
    const told = (error: unknown): void => log.warn('this proxy could not say that it is alive', { error: toAgentError(error).message })
    this.#timers.use(clock.every(times.beatMs, () => this.beat(), told))
    // By itself, because a beat may hang for as long as the network likes.
    this.#timers.use(clock.every(Math.min(1000, times.beatMs), () => this.#look(), told))
  }

  get fenced(): AbortSignal {
    return this.#fence.signal
  }

  async beat(): Promise<void> {
    if (this.#fence.signal.aborted) return
    const sent = momentOf(this.#clock, this.#uptimeMs)
    const { signal } = this.#fence
    const state = await this.#state.transaction('proxy alive', (session) => session.get(SQL.beat, this.epoch), { signal })
    if (state !== 'alive') {
      const error = declaredDead(this.epoch)
      this.#stop(error)
      throw error
    }
    if (sent.monotonicMs > this.#lastBeat.monotonicMs) this.#lastBeat = sent
  }

  refusal(): AgentError | undefined {
    if (!this.#timers.disposed) this.#look()
    const { signal } = this.#fence
    return signal.aborted ? toAgentError(signal.reason) : undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timers.dispose()
    try {
      await this.#state.transaction('proxy gone', (session) => session.run(SQL.gone, this.epoch))
    } catch (error) {
      // Somebody declares it dead when its time is over.
      this.#log.warn('this proxy could not say that it ends', { error: toAgentError(error).message })
    }
  }

  #look(): void {
    const now = momentOf(this.#clock, this.#uptimeMs)
    const silentMs = Math.max(now.monotonicMs - this.#lastBeat.monotonicMs, now.uptimeMs - this.#lastBeat.uptimeMs)
    if (silentMs < this.#times.fenceAfterMs) return
    this.#stop(
      new AgentError(
        'CANCELED',
        `The state database could not be reached for ${Math.round(silentMs / 1000)} s; other proxies may take over.`,
        {
          next: 'Repair the way to the database; what was running is released and tried again.',
        },
      ),
    )
  }

  #stop(reason: AgentError): void {
    if (this.#fence.signal.aborted) return
    this.#timers.dispose()
    this.#log.error('this proxy stops its work', { reason: reason.message })
    this.#fence.abort(reason)
  }
}

/** Names hold no blank. An empty list is no `NULL`. */
const listText = (names: readonly string[] | undefined): string | null => names?.join(' ') ?? null
const listOf = (text: string | undefined): readonly string[] | undefined => text?.split(' ').filter((name) => name !== '')

const decode = (row: Row): RegisteredProxy => ({
  epoch: row.integer('epoch') as ProxyEpoch,
  agent: row.text('agent'),
  name: row.text('name'),
  kind: row.text('kind') === 'agent' ? 'agent' : 'command',
  sites: listOf(row.optionalText('sites')),
  transports: listOf(row.text('transports')) ?? [],
  host: row.text('host'),
  pid: row.integer('pid'),
  bootId: row.text('boot'),
  startTime: row.integer('start'),
  begunAt: new Date(row.text('begun_at')),
  beatAt: new Date(row.text('beat_at')),
  state: row.text('state') as RegisteredProxy['state'],
})

/** While the server itself was down nobody could beat: silence counts from its start. */
const SILENT = `state = 'alive' AND greatest(beat_at, pg_postmaster_start_time()) < clock_timestamp() - $1 * interval '1 millisecond'`

const SQL = {
  register: pgStatement<[string, string, number, string, number, string, string, string | null, string], ProxyEpoch>(
    `INSERT INTO proxy_process (agent, host, pid, boot, start, name, kind, sites, transports, begun_at, beat_at, state)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp(), clock_timestamp(), 'alive') RETURNING epoch`,
    (row) => row.integer('epoch') as ProxyEpoch,
  ),
  /** Commands register too: those that ended long ago are forgotten. */
  forget: pgStatement<[]>(
    `DELETE FROM proxy_process WHERE ended_at < clock_timestamp() - interval '30 days'
       AND NOT EXISTS (SELECT FROM limit_token WHERE limit_token.epoch = proxy_process.epoch)`,
  ),
  beat: pgStatement<[number], string>(
    `UPDATE proxy_process SET beat_at = clock_timestamp() WHERE epoch = $1 AND state = 'alive' RETURNING state`,
    (row) => row.text('state'),
  ),
  gone: pgStatement<[number]>(`UPDATE proxy_process SET state = 'gone', ended_at = clock_timestamp() WHERE epoch = $1 AND state = 'alive'`),
  list: pgStatement<[], RegisteredProxy>(
    `SELECT * FROM proxy_process WHERE state = 'alive' OR ended_at > clock_timestamp() - interval '1 day' ORDER BY epoch LIMIT 10000`,
    decode,
  ),
  state: pgStatement<[number], string>('SELECT state FROM proxy_process WHERE epoch = $1', (row) => row.text('state')),
  ofProcess: pgStatement<[number, string, number], string>(
    'SELECT state FROM proxy_process WHERE pid = $1 AND boot = $2 AND start = $3 ORDER BY epoch DESC LIMIT 1',
    (row) => row.text('state'),
  ),
  // KEY SHARE lets beats pass, and makes who would declare it dead wait, because that takes the row FOR UPDATE.
  hold: pgStatement<[number], string>('SELECT state FROM proxy_process WHERE epoch = $1 FOR KEY SHARE', (row) => row.text('state')),
  silent: pgStatement<[number], number>(`SELECT epoch FROM proxy_process WHERE ${SILENT} LIMIT 1`, (row) => row.integer('epoch')),
  declareDead: pgStatement<[number], RegisteredProxy>(
    `UPDATE proxy_process SET state = 'dead', ended_at = clock_timestamp()
     WHERE epoch IN (SELECT epoch FROM proxy_process WHERE ${SILENT} ORDER BY epoch FOR UPDATE) RETURNING *`,
    decode,
  ),
}
