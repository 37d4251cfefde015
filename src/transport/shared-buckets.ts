import { AgentError, type Clock, type Log, throwIfAborted, toAgentError } from '../core/index.ts'
import type { State } from '../state/index.ts'
import { type Buckets, type BucketUse, type TakeOptions, type Token, type Tokens, type TokenUse } from './buckets.ts'
import { isTurn, type TokenRow, waitForTurn } from './turn.ts'

/** A process for as long as it lives: another one with the same pid differs in boot or start. */
export type TokenOwner = { readonly pid: number; readonly bootId: string; readonly startTime: number }

/** The processes that share the state file. */
export type TokenOwners = {
  self(): Promise<TokenOwner>
  /** False only when it is certain that the process is gone. */
  isAlive(owner: TokenOwner): Promise<boolean>
}

export type SharedBucketParts = {
  readonly state: State
  readonly clock: Clock
  readonly log: Log
  readonly owners: TokenOwners
}

/** One who waits looks again so often, ms; what a process gives back wakes its own at once. */
const LOOK_MS = 200

/** A token that is held or waited for. */
type Held = TokenRow & {
  readonly bucket: string
  readonly name: string
  readonly limit: number
  readonly owner: TokenOwner
}

/**
 * Counts over all processes that share a state file: a row for each token that is held or waited for, with its owner. A row whose owner is dead counts until
 * somebody has to wait: then it is taken away. No claim: there is nothing to undo outside. A token costs two transactions, one who waits a look every
 * LOOK_MS.
 */
export function createSharedBuckets(parts: SharedBucketParts): Buckets {
  const { state } = parts
  const sql = prepare(state)
  let self: Promise<TokenOwner> | undefined
  const shared: Shared = {
    ...parts,
    sql,
    self: () => (self ??= parts.owners.self()),
    waking: new Set(),
  }
  const known = new Map<string, SharedTokens>()
  return Object.freeze({
    tokens: (key: string, name: string, limit: number): Tokens => {
      const tokens = known.get(key) ?? new SharedTokens(shared, key, name, limit)
      known.set(key, tokens)
      return tokens
    },
    inUse: async () => {
      const found = new Map<string, BucketUse & { readonly uses: TokenUse[] }>()
      for (const { bucket, name, limit, holder, owner, held } of await living(shared, sql.all.all())) {
        const use = found.get(bucket) ?? { name, limit, uses: [] }
        use.uses.push({ holder, pid: owner.pid, waits: !held })
        found.set(bucket, use)
      }
      return [...found.values()]
    },
  })
}

type Shared = SharedBucketParts & {
  readonly sql: ReturnType<typeof prepare>
  readonly self: () => Promise<TokenOwner>
  /** Wakes every waiting one of this process. */
  readonly waking: Set<() => void>
}

class SharedTokens implements Tokens {
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
    const { id, held } = await this.#ask(options?.holder ?? '', true)
    if (held) return this.#token(id, false)
    try {
      await this.#wait(id, options)
      return this.#token(id, true)
    } catch (error) {
      this.#strike([id])
      throw error
    }
  }

  async tryTake(holder = ''): Promise<Token | undefined> {
    const { id, held } = await this.#ask(holder, false)
    return held ? this.#token(id, false) : undefined
  }

  /** Writes down that a token is held, or else, if `wait`, that it is waited for. */
  async #ask(holder: string, wait: boolean): Promise<{ readonly id: number; readonly held: boolean }> {
    const { state, sql, self } = this.#shared
    const owner = await self()
    return state.note('limit token asked', () => {
      const rows = sql.of.all(this.#key)
      const held = rows.length < this.limit
      if (!held && !wait) return { id: -1, held }
      sql.insert.run(this.#key, this.name, this.limit, holder, owner.pid, owner.bootId, owner.startTime, held ? 1 : 0)
      return { id: sql.last.get() ?? -1, held }
    })
  }

  /** Until the row `id` holds a token: its turn is when fewer than `limit` of those that asked before it are left. */
  #wait(id: number, options?: TakeOptions): Promise<void> {
    const { state, sql } = this.#shared
    return waitForTurn(this, { ...this.#shared, lookMs: LOOK_MS }, options, async () => {
      const rows = await this.#withoutDead()
      if (!rows.some((row) => row.id === id))
        throw new AgentError('INTERNAL', `What waits for one of the ${this.name} was struck from the state database.`)
      const take = (): boolean => isTurn(sql.of.all(this.#key), id, this.limit) && sql.hold.run(id) === 1
      return { rows, taken: isTurn(rows, id, this.limit) && state.note('limit token taken', take) }
    })
  }

  /** The rows of this bucket; those of dead processes are taken away first. */
  async #withoutDead(): Promise<readonly Held[]> {
    const { sql } = this.#shared
    const rows = sql.of.all(this.#key)
    const alive = await living(this.#shared, rows)
    const dead = rows.filter((row) => !alive.includes(row))
    if (dead.length > 0) this.#strike(dead.map(({ id }) => id))
    return alive
  }

  #token(id: number, waited: boolean): Token {
    let over = false
    return {
      waited,
      [Symbol.asyncDispose]: async () => {
        if (over) return
        over = true
        this.#strike([id])
      },
    }
  }

  /** A row that cannot be taken away counts until this process has ended. */
  #strike(ids: readonly number[]): void {
    const { state, sql, log, waking } = this.#shared
    try {
      state.note('limit token given back', () => ids.map((id) => sql.remove.run(id)))
    } catch (error) {
      log.warn('what was taken of a limit cannot be given back before this process ends', {
        limit: this.name,
        error: toAgentError(error).message,
      })
    }
    for (const wake of waking) wake()
  }
}

async function living({ owners, self }: Shared, rows: readonly Held[]): Promise<readonly Held[]> {
  const me = await self()
  const keyOf = ({ pid, bootId, startTime }: TokenOwner): string => `${pid} ${bootId} ${startTime}`
  const alive = new Map([[keyOf(me), true]])
  for (const { owner } of rows) if (!alive.has(keyOf(owner))) alive.set(keyOf(owner), await owners.isAlive(owner))
  return rows.filter(({ owner }) => alive.get(keyOf(owner)) === true)
}

const prepare = (state: State) => {
  const decode = (row: Parameters<NonNullable<Parameters<typeof state.statement>[1]>>[0]): Held => ({
    id: row.integer('id'),
    bucket: row.text('bucket'),
    name: row.text('name'),
    limit: row.integer('most'),
    holder: row.text('holder'),
    owner: { pid: row.integer('owner_pid'), bootId: row.text('owner_boot'), startTime: row.integer('owner_start') },
    held: row.integer('held') === 1,
  })
  return {
    of: state.statement<[string], Held>('SELECT * FROM limit_token WHERE bucket = ? ORDER BY id', decode),
    all: state.statement<[], Held>('SELECT * FROM limit_token ORDER BY bucket, id', decode),
    insert: state.statement<[string, string, number, string, number, string, number, number]>(
      `INSERT INTO limit_token (bucket, name, most, holder, owner_pid, owner_boot, owner_start, held) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    last: state.statement<[], number>('SELECT last_insert_rowid() AS id', (row) => row.integer('id')),
    hold: state.statement<[number]>('UPDATE limit_token SET held = 1 WHERE id = ? AND held = 0'),
    remove: state.statement<[number]>('DELETE FROM limit_token WHERE id = ?'),
  }
}
