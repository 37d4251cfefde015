import { createHash } from 'node:crypto'
import type { Pool } from 'pg'
import type { PgBoss } from 'pg-boss'
import { type Clock, effect, type Log, toAgentError } from '../core/index.ts'
import { fromPg } from './pg-error.ts'
import { openPgPool, type PgAccess } from './pg-pool.ts'
import { PG_PATIENCE_MS } from './pg-state.ts'
import { HEARTBEAT_S, MONITOR_S, type TakenWork, type WorkItem, type WorkQueue } from './work-queue.ts'

export type OpenPgQueueOptions = PgAccess & {
  readonly clock: Clock
  readonly log: Log
  readonly name: string
  /** Gives work of dead proxies to others; every agent does, so that the last one living does. */
  readonly supervise: boolean
  readonly heartbeatS?: number | undefined
  readonly monitorS?: number | undefined
  readonly patienceMs?: number | undefined
}

/** Of pg-boss alone; removed with it. */
const SCHEMA = 'vcb_queue'
const QUEUE = 'runs'
/** Taken anew so often at most, when one proxy after the other dies of it. */
const RETRIES = 20
/** From its last beginning on, work that nobody keeps goes to another at the latest; pg-boss allows no more. Whoever keeps it begins it anew before. Seconds. */
const EXPIRES_S = 24 * 3600
/** So often work that is kept begins anew for pg-boss: a run may take days, and is dead when its proxy is silent, not when it is slow. ms */
const BEGUN_ANEW_MS = 600_000
/** Work that was done is known for so long: offered again within it, it is not new. Seconds. */
const KNOWN_S = 7 * 24 * 3600
/** Nobody took it for so long: the next one that offers it decides anew. Seconds. */
const WAITS_S = 24 * 3600
const PAUSE_MS = 250
/** pg-boss has no call for it: its expiration counts from there. */
const BEGIN_ANEW = `UPDATE ${SCHEMA}.job SET started_on = ${SCHEMA}.job_now() WHERE name = $1 AND id = ANY($2::uuid[]) AND state = 'active'`

/**
 * The queue by pg-boss, in a schema of its own beside ours. Exactly once by two of its means: the queue's policy is `exclusive`, so that one work about the same thing
 * waits or runs at a time (a unique index holds it), and a work's id is made of its key, so that one that is done is known by its row. Which work begins next is the
 * dispatcher's to say, and no queue's: it knows urgency, limits and places. So a work is fetched by its priority, which is made of its key and of no other meaning:
 * pg-boss fetches by a range of priorities, and by nothing else that tells works apart.
 */
export async function openPgQueue(options: OpenPgQueueOptions): Promise<WorkQueue> {
  await using stack = new AsyncDisposableStack()
  const pool = stack.adopt(await openPgPool(options, `vcb queue ${options.name}`, 'plain'), (opened) => opened.end())
  pool.on('error', (error) => options.log.debug('a connection to the state database broke', { error: error.message }))
  const { PgBoss: Boss } = await import('pg-boss')
  const boss = new Boss({
    db: { executeSql: (text, values) => execute(pool, options.address.shown, text, values) },
    schema: SCHEMA,
    schedule: false,
    supervise: options.supervise,
    superviseIntervalSeconds: options.monitorS ?? MONITOR_S,
    monitorIntervalSeconds: options.monitorS ?? MONITOR_S,
  })
  boss.on('error', (error) => options.log.warn('the queue of the state database has trouble', { error: toAgentError(error).message }))
  const { shown } = options.address
  const queue = new BossQueue(boss, options)
  await queue.patiently(() => boss.start(), shown)
  stack.defer(() => boss.stop({ graceful: false }))
  const kept = stack.move()
  queue.close = () => kept.disposeAsync()
  return queue
}

type Answer = { rows: unknown[] }
const isList = (answer: Answer | readonly Answer[]): answer is readonly Answer[] => Array.isArray(answer)

/** Every statement that changes something is an effect, as in `PgState`. */
async function execute(pool: Pool, shown: string, text: string, values: unknown[] = []): Promise<Answer> {
  const run = async (): Promise<Answer> => {
    if (values.length > 0) return pool.query(text, values)
    // Several statements in one text give a list of answers.
    const answer: Answer | readonly Answer[] = await pool.query(text)
    return isList(answer) ? { rows: answer.flatMap(({ rows }) => rows) } : answer
  }
  return /^\s*SELECT\b(?![\s\S]*\bFOR UPDATE\b)/iu.test(text) ? run() : effect({ kind: 'row', what: 'queue', on: shown }, run)
}

class BossQueue implements WorkQueue {
  readonly #boss: PgBoss
  readonly #options: OpenPgQueueOptions
  #opened: Promise<void> | undefined
  #begunAnew = Number.NEGATIVE_INFINITY
  close: () => Promise<void> = async () => undefined

  constructor(boss: PgBoss, options: OpenPgQueueOptions) {
    this.#boss = boss
    this.#options = options
  }

  async take(item: WorkItem): Promise<TakenWork | undefined> {
    await this.#open()
    const id = idOf(item.key)
    // Again after something older about the same thing was cleared away.
    for (let turn = 0; turn < 2; turn++) {
      const jobs = [{ id, singletonKey: item.about, priority: addressOf(id), data: item.data }]
      await this.patiently(() => this.#boss.insert(QUEUE, jobs))
      const taken = await this.#fetch(id)
      if (taken !== undefined) return taken
      if (!(await this.#clearOlder(id, item.about))) return undefined
    }
    return undefined
  }

  async keep(work: readonly TakenWork[]): Promise<void> {
    if (work.length === 0) return
    const ids = work.map(({ id }) => id)
    await this.patiently(() => this.#boss.touch(QUEUE, ids))
    const now = this.#options.clock.monotonicMs()
    if (now - this.#begunAnew < BEGUN_ANEW_MS) return
    await this.patiently(() => this.#boss.getDb().executeSql(BEGIN_ANEW, [QUEUE, ids]))
    this.#begunAnew = now
  }

  async done({ id }: TakenWork): Promise<void> {
    await this.patiently(() => this.#boss.complete(QUEUE, id))
  }

  async giveUp({ id }: TakenWork): Promise<void> {
    await this.patiently(() => this.#boss.deleteJob(QUEUE, id))
  }

  async #fetch(id: string): Promise<TakenWork | undefined> {
    const address = addressOf(id)
    const fetched = await this.patiently(() =>
      this.#boss.fetch(QUEUE, { batchSize: 1, includeMetadata: true, minPriority: address, maxPriority: address }),
    )
    const found = fetched.find((job) => job.id === id)
    // Another work of the same address, one in two thousand million: who asks for it next makes it anew.
    for (const job of fetched) if (job !== found) await this.giveUp({ id: job.id, before: 0 })
    return found === undefined ? undefined : { id, before: found.retryCount }
  }

  /** Work about the same thing that nobody does, because its proxy died and its moment is over: it is taken, so that nobody else does, and removed. */
  async #clearOlder(id: string, about: string): Promise<boolean> {
    const waiting = await this.patiently(() => this.#boss.findJobs(QUEUE, { key: about, queued: true }))
    let cleared = false
    for (const job of waiting.filter((each) => each.id !== id)) {
      const taken = await this.#fetch(job.id)
      if (taken === undefined) continue
      await this.giveUp(taken)
      cleared = true
    }
    return cleared
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Until it succeeds, fails for good, or the server has been away for too long. All that is done here may be done twice. */
  async patiently<T>(work: () => Promise<T>, shown = this.#options.address.shown): Promise<T> {
    const { clock, patienceMs = PG_PATIENCE_MS } = this.#options
    const since = clock.monotonicMs()
    for (;;) {
      try {
        return await work()
      } catch (error) {
        const failure = fromPg(error, shown)
        if (failure === undefined) throw error
        if (failure.retry === 'no' || clock.monotonicMs() - since >= patienceMs) throw failure.error
        await clock.sleep(PAUSE_MS)
      }
    }
  }

  /** Made by whoever comes first; once per process. */
  #open(): Promise<void> {
    this.#opened ??= this.patiently(() =>
      this.#boss.createQueue(QUEUE, {
        policy: 'exclusive',
        retryLimit: RETRIES,
        retryDelay: 0,
        heartbeatSeconds: this.#options.heartbeatS ?? HEARTBEAT_S,
        expireInSeconds: EXPIRES_S,
        retentionSeconds: WAITS_S,
        deleteAfterSeconds: KNOWN_S,
      }),
    )
    this.#opened.catch(() => {
      this.#opened = undefined
    })
    return this.#opened
  }
}

/** 31 bits of a work's id. */
const addressOf = (id: string): number => Number.parseInt(id.slice(0, 8), 16) & 0x7fffffff

/** A uuid of the key (version 8 of RFC 9562, section 5.8: made as the application likes). */
function idOf(key: string): string {
  const bytes = createHash('sha256').update(key).digest().subarray(0, 16)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/u, '$1-$2-$3-$4-$5')
}
