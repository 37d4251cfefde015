import { AgentError } from '../core/index.ts'
import { PG_MIGRATIONS } from './pg-migrations.ts'
import { type PgSession, pgStatement } from './pg-statement.ts'

const SQL = {
  alone: pgStatement<[]>("SELECT pg_advisory_xact_lock(hashtextextended('vcb migrations', 0))"),
  schema: pgStatement<[], string>(`SELECT nspname FROM pg_namespace WHERE nspname = 'vcb'`, (row) => row.text('nspname')),
  about: pgStatement<[], string>(`SELECT relname FROM pg_class WHERE oid = to_regclass('vcb.about')`, (row) => row.text('relname')),
  version: pgStatement<[], number>('SELECT version FROM vcb.about', (row) => row.integer('version')),
  start: pgStatement<[]>(`CREATE SCHEMA vcb; CREATE TABLE vcb.about (one integer PRIMARY KEY CHECK (one = 1), version integer NOT NULL);
    INSERT INTO vcb.about VALUES (1, 0)`),
  set: pgStatement<[number]>('UPDATE vcb.about SET version = $1'),
}

/** The version of the schema; undefined where there is none. Errors: CONFIG (newer than this vcb), INTEGRITY (a schema vcb that is not ours). */
export async function pgVersion(session: PgSession, shown: string): Promise<number | undefined> {
  if ((await session.get(SQL.schema)) === undefined) return undefined
  const version = (await session.get(SQL.about)) === undefined ? undefined : await session.get(SQL.version)
  if (version === undefined)
    throw new AgentError('INTEGRITY', `The database ${shown} has a schema "vcb" that vcb did not make.`, {
      subject: shown,
      next: 'Name another database, or remove that schema if nothing needs it.',
    })
  if (version > PG_MIGRATIONS.length)
    throw new AgentError('CONFIG', `The state database ${shown} has version ${version}, this vcb knows up to ${PG_MIGRATIONS.length}.`, {
      subject: shown,
      next: 'Install the newer vcb here too: all proxies of one database want the same version.',
    })
  return version
}

/** Brings the schema to the present shape; one process at a time, all of it or nothing, inside a transaction of the caller. */
export async function pgMigrate(session: PgSession, shown: string): Promise<void> {
  await session.run(SQL.alone)
  // Read under the lock: another process may have migrated meanwhile.
  let version = await pgVersion(session, shown)
  if (version === undefined) {
    await session.run(SQL.start)
    version = 0
  }
  for (const step of PG_MIGRATIONS.slice(version)) await session.run(pgStatement<[]>(step))
  await session.run(SQL.set, PG_MIGRATIONS.length)
}

export const isCurrent = (version: number | undefined): boolean => version === PG_MIGRATIONS.length
