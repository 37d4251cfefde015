import { AgentError, type Clock, type Log, throwIfAborted, toAgentError } from '../core/index.ts'
import { assertAlive, type PgSession, type PgState, pgStatement, type ProxyEpoch, type Row } from '../state/index.ts'
import { type Buckets, type BucketUse, type TakeOptions, type Token, type Tokens, type TokenUse } from './buckets.ts'
import { isTurn, type TokenRow, waitForTurn } from './turn.ts'

export type PgBucketParts = {
  readonly state: PgState
  readonly clock: Clock
  readonly log: Log
  /** The process whose tokens these are. */
  readonly epoch: ProxyEpoch
}

/** One who waits looks again so often, ms; what a process gives back wakes its own at once. */
const LOOK_MS = 400

type Asked = Pick<TokenRow, 'id' | 'held'>
type Held = TokenRow & {
  readonly bucket: string
  readonly name: string
  readonly limit: number
  readonly host: string
  readonly pid: number
  readonly alive: boolean
}

/**
 * Counts over all proxies that share a database: a row for each token that is held or waited for, with the epoch of its process. What an epoch had that is
 * over counts no more. Each bucket is changed under a lock of its own. A token costs two transactions, one who waits a query every LOOK_MS.
 */
export function createPgBuckets(parts: PgBucketParts): Buckets {
  const shared: Shared = { ...parts, waking: new Set(), owed: new Set() }
  const known = new Map<string, PgTokens>()
  return Object.freeze({
    tokens: (key: string, name: string, limit: number): Tokens => {
      const tokens = known.get(key) ?? new PgTokens(shared, key, name, limit)
      known.set(key, tokens)
      return tokens
    },
    inUse: async () => {
      const found = new Map<string, BucketUse & { readonly uses: TokenUse[] }>()
      for (const { bucket, name, limit, holder, host, pid, held } of (await parts.state.all(SQL.all)).filter(({ alive }) => alive)) {
        const use = found.get(bucket) ?? { name, limit, uses: [] }
        use.uses.push({ holder, host, pid, waits: !held })
        found.set(bucket, use)
      }
      return [...found.values()]
    },
  })
}

type Shared = PgBucketParts & {
  /** Wakes every waiting one of this process. */
  readonly waking: Set<() => void>
  /** Rows that could not be taken away when they were to be; tried again with the next one. */
  readonly owed: Set<number>
}

class PgTokens implements Tokens {
  readonly name: string
  readonly limit: number
  readonly #key: string
  readonly #shared: Shared

  constructor(shared: Shared, key: string, name: string, limit: number) {
    this.#shared = shared
    this.#key = key
    this.name = name
    this.limit = limit
  }

  async take(options?: TakeOptions): Promise<Token> {
    throwIfAborted(options)
    const asked = await this.#ask(options?.holder ?? '', true)
    if (asked === undefined) throw new AgentError('INTERNAL', `The state database noted nothing for the ${this.name}.`)
    if (asked.held) return this.#token(asked.id, false)
    try {
      await this.#wait(asked.id, options)
      return this.#token(asked.id, true)
    } catch (error) {
      await this.#strike([asked.id])
      throw error
    }
  }

  async tryTake(holder = ''): Promise<Token | undefined> {
    const asked = await this.#ask(holder, false)
    return asked === undefined ? undefined : this.#token(asked.id, false)
  }

  /** Writes down that a token is held, or else, if `wait`, that it is waited for. */
  #ask(holder: string, wait: boolean): Promise<Asked | undefined> {
    return this.#change('limit token asked', async (session) => {
      await assertAlive(session, this.#shared.epoch)
      return session.get(SQL.ask, this.#key, this.name, this.limit, holder, this.#shared.epoch, wait ? 1 : 0)
    })
  }

  /** Until the row `id` holds a token: its turn is when fewer than `limit` of those that asked before it are left. */
  #wait(id: number, options?: TakeOptions): Promise<void> {
    return waitForTurn(this, { ...this.#shared, lookMs: LOOK_MS }, options, async () => {
      const rows = await this.#withoutDead()
      if (!rows.some((row) => row.id === id))
        throw new AgentError('CANCELED', `The wait for one of the ${this.name} is over: this process was declared dead by another proxy.`)
      return { rows, taken: isTurn(rows, id, this.limit) && (await this.#hold(id)) }
    })
  }

  #hold(id: number): Promise<boolean> {
    return this.#change('limit token taken', async (session) => {
      await assertAlive(session, this.#shared.epoch)
      const rows = (await session.all(SQL.of, this.#key)).filter(({ alive }) => alive)
      return isTurn(rows, id, this.limit) && (await session.run(SQL.hold, id)) === 1
    })
  }

  /** The rows of this bucket; those of dead processes are taken away. */
  async #withoutDead(): Promise<readonly Held[]> {
    const rows = await this.#shared.state.all(SQL.of, this.#key)
    const dead = rows.filter(({ alive }) => !alive)
    if (dead.length > 0) await this.#strike(dead.map(({ id }) => id))
    return rows.filter(({ alive }) => alive)
  }

  #token(id: number, waited: boolean): Token {
    let over = false
    return {
      waited,
      [Symbol.asyncDispose]: async () => {
        if (over) return
        over = true
        await this.#strike([id])
      },
    }
  }

  /** A row that cannot be taken away now is taken away with the next one, or when this process has ended. */
  async #strike(ids: readonly number[]): Promise<void> {
    const { log, waking, owed } = this.#shared
    for (const id of ids) owed.add(id)
    const all = [...owed]
    try {
      await this.#shared.state.transaction('limit token given back', (session) => session.run(SQL.remove, all))
      for (const id of all) owed.delete(id)
    } catch (error) {
      log.warn('what was taken of a limit cannot be given back now', { limit: this.name, error: toAgentError(error).message })
    }
    for (const wake of waking) wake()
  }

  #change<T>(what: string, change: (session: PgSession) => Promise<T>): Promise<T> {
    return this.#shared.state.transaction(what, change, { lock: `limit ${this.#key}` })
  }
}

const decode = (row: Row): Held => ({
  id: row.integer('id'),
  bucket: row.text('bucket'),
  name: row.text('name'),
  limit: row.integer('most'),
  holder: row.text('holder'),
  host: row.text('host'),
  pid: row.integer('pid'),
  held: row.integer('held') === 1,
  alive: row.text('state') === 'alive',
})

const SELECT = 'SELECT t.*, p.host, p.pid, p.state FROM limit_token t JOIN proxy_process p USING (epoch)'

const SQL = {
  of: pgStatement<[string], Held>(`${SELECT} WHERE bucket = $1 ORDER BY id LIMIT 10000`, decode),
  all: pgStatement<[], Held>(`${SELECT} ORDER BY bucket, id LIMIT 100000`, decode),
  ask: pgStatement<[string, string, number, string, number, number], Asked>(
    `WITH seen AS (SELECT count(*) < $3::bigint AS free FROM limit_token JOIN proxy_process p USING (epoch) WHERE bucket = $1 AND p.state = 'alive')
     INSERT INTO limit_token (bucket, name, most, holder, epoch, held)
     SELECT $1, $2, $3, $4, $5, free FROM seen WHERE free OR $6::integer = 1 RETURNING id, held`,
    (row) => ({ id: row.integer('id'), held: row.integer('held') === 1 }),
  ),
  hold: pgStatement<[number]>('UPDATE limit_token SET held = true WHERE id = $1 AND NOT held'),
  remove: pgStatement<[readonly number[]]>('DELETE FROM limit_token WHERE id = ANY ($1::bigint[])'),
}
