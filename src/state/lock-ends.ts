import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { type Clock, effectNow, ensureDirectory, type Log, removeFile, setPermissions } from '../core/index.ts'

/* docs/formats/lock-ends.md */

const APPLICATION_ID = 0x7663626c
const VERSION = 1
const ID_BYTES = 32
const KINDS = Object.freeze({
  config: 0,
  data: 1,
  index: 2,
  key: 3,
  snapshot: 4,
  tree: 5,
  swept: 6,
})
const DAY = 24 * 3_600_000
/** In so many days everything is asked for again. */
const FORGOTTEN_IN = 28
/** Nobody waits longer for the thread, ms. */
const LONGEST_STEP_MS = 5
const NO_ID = Buffer.alloc(ID_BYTES)

type Kind = Exclude<keyof typeof KINDS, 'swept'>

export type LockEndsParts = {
  /** Of one repository; may be missing. */
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
}

const IN_MEMORY = ':memory:'

/**
 * Opens what is known of the Object Locks of a repository, in a file of its own: it is a cache of millions of rows, which may be lost without harm, and the agent's database is looked through whenever it is opened. Never
 * fails: what cannot be kept on the local disk is kept in memory.
 */
export async function openLockEnds(parts: LockEndsParts): Promise<LockEndsFile> {
  const { directory, log } = parts
  const path = join(directory, 'lock-ends.sqlite')
  for (let attempt = 1; attempt <= 2; attempt++) {
    try {
      await ensureDirectory(directory)
      const ends = new LockEndsFile(parts, path)
      await setPermissions(path, 0o600)
      return ends
    } catch (error) {
      log.warn('what is known of the locks of a repository cannot be read', { path, reason: String(error) })
      if (isHeld(error)) break
      await removeAll(path, log)
    }
  }
  return new LockEndsFile(parts, IN_MEMORY)
}

type Opened = { readonly database: DatabaseSync; readonly get: StatementSync; readonly put: StatementSync }

/** As `LockEnds` of a restic repository. */
export class LockEndsFile implements Disposable {
  readonly #parts: LockEndsParts
  #opened: Opened | undefined
  #path: string

  /** Node's own errors. */
  constructor(parts: LockEndsParts, path: string) {
    this.#parts = parts
    this.#path = path
    this.#opened = open(path)
  }

  /** ms since 1970; undefined where it was never told. `name`: hex, but for the configuration. */
  get(kind: Kind, name: string): number | undefined {
    const row = this.#try(() => this.#opened?.get.get(KINDS[kind], idOf(kind, name)))
    const until = row?.['until']
    return typeof until === 'number' ? until : undefined
  }

  /** The server has said so. */
  set(kind: Kind, name: string, until: number): void {
    this.#put(KINDS[kind], idOf(kind, name), until)
  }

  /** Once a day: forgets what is over, and a share of the rest. In many short steps. */
  async sweep(): Promise<void> {
    const { clock } = this.#parts
    const now = clock.now().getTime()
    const swept = this.#try(() => this.#opened?.get.get(KINDS.swept, NO_ID))?.['until']
    const day = Math.floor(now / DAY)
    const last = typeof swept === 'number' ? Math.floor(swept / DAY) : undefined
    if (last === day) return
    // It is new.
    if (last === undefined) return this.#put(KINDS.swept, NO_ID, now)
    // A clock that stepped back forgets nothing but the moment.
    const days = new Set(Array.from({ length: Math.min(FORGOTTEN_IN, Math.max(0, day - last)) }, (_, ago) => (day - ago) % FORGOTTEN_IN))
    const all = this.#try(() => this.#opened?.database.prepare('DELETE FROM lock_end WHERE kind = ? AND id >= ? AND id < ?'))
    const over = this.#try(() => this.#opened?.database.prepare('DELETE FROM lock_end WHERE kind = ? AND id >= ? AND id < ? AND until < ?'))
    let begun = clock.monotonicMs()
    for (const kind of [KINDS.config, KINDS.data, KINDS.index, KINDS.key, KINDS.snapshot, KINDS.tree]) {
      for (let first = 0; first < 256; first++) {
        const [from, to] = [Buffer.from([first]), first === 255 ? Buffer.alloc(ID_BYTES + 1, 255) : Buffer.from([first + 1])]
        this.#try(() =>
          effectNow({ kind: 'row', what: 'lock ends forgotten', on: this.#path }, () => {
            if (days.has(first % FORGOTTEN_IN)) all?.run(kind, from, to)
            // An old snapshot is looked at each time, and asked for once.
            else if (kind !== KINDS.snapshot) over?.run(kind, from, to, now)
          }),
        )
        if (clock.monotonicMs() - begun < LONGEST_STEP_MS) continue
        await clock.sleep(0)
        begun = clock.monotonicMs()
      }
    }
    this.#put(KINDS.swept, NO_ID, now)
  }

  [Symbol.dispose](): void {
    this.#opened?.database.close()
    this.#opened = undefined
  }

  #put(kind: number, id: Uint8Array, until: number): void {
    this.#try(() => effectNow({ kind: 'row', what: 'lock end noted', on: this.#path }, () => this.#opened?.put.run(kind, id, until)))
  }

  /** What cannot be kept on the local disk is kept in memory: no reason for a renewal to fail. */
  #try<T>(work: () => T): T | undefined {
    try {
      return work()
    } catch (error) {
      this.#parts.log.warn('what is known of the locks of a repository is not kept on the local disk', {
        path: this.#path,
        reason: String(error),
      })
      if (this.#path === IN_MEMORY) return undefined
      this[Symbol.dispose]()
      this.#path = IN_MEMORY
      this.#opened = open(IN_MEMORY)
      return undefined
    }
  }
}

function open(path: string): Opened {
  return effectNow({ kind: 'row', what: 'open', on: path }, () => {
    const database = new DatabaseSync(path, { timeout: 10_000 })
    try {
      // What a power cut takes back is asked for again.
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF')
      const [application, version] = ['application_id', 'user_version'].map((name) => database.prepare(`PRAGMA ${name}`).get()?.[name])
      if (version === 0 && application === 0) {
        database.exec(`CREATE TABLE IF NOT EXISTS lock_end (kind INTEGER NOT NULL, id BLOB NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
          PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${VERSION};`)
      } else if (version !== VERSION || application !== APPLICATION_ID) throw new TypeError('it is of another program or version')
      return {
        database,
        get: database.prepare('SELECT until FROM lock_end WHERE kind = ? AND id = ?'),
        put: database.prepare('INSERT OR REPLACE INTO lock_end (kind, id, until) VALUES (?, ?, ?)'),
      }
    } catch (error) {
      database.close()
      throw error
    }
  })
}

const idOf = (kind: Kind, name: string): Uint8Array => (kind === 'config' ? NO_ID : Buffer.from(name, 'hex'))

/** By another process, whose it is as well. */
const isHeld = (error: unknown): boolean =>
  error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' && [5, 6].includes(error.errcode & 0xff)

async function removeAll(path: string, log: Log): Promise<void> {
  for (const each of [path, `${path}-wal`, `${path}-shm`]) {
    try {
      await removeFile(each)
    } catch (error) {
      log.warn('a file of a cache cannot be removed', { path: each, reason: String(error) })
    }
  }
}
