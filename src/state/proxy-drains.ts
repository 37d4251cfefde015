import type { PgState } from './pg-state.ts'
import { pgStatement } from './pg-statement.ts'

/** A proxy that takes nothing new and finishes what runs, until it is resumed. Holds for its name, over restarts. */
export type ProxyDrain = { readonly name: string; readonly by: string; readonly at: Date }

/** Which proxies are drained. Every call is atomic; asked about every few seconds by each agent. */
export interface ProxyDrains {
  list(): Promise<readonly ProxyDrain[]>
  /** Idempotent; the first one counts. */
  drain(name: string, by: string): Promise<void>
  /** False when it was not drained. */
  resume(name: string): Promise<boolean>
}

export function createProxyDrains(state: PgState): ProxyDrains {
  return Object.freeze({
    list: () => state.all(SQL.list),
    drain: async (name: string, by: string) => {
      await state.transaction('proxy drained', (session) => session.run(SQL.drain, name, by))
    },
    resume: (name: string) => state.transaction('proxy resumed', async (session) => (await session.run(SQL.resume, name)) === 1),
  })
}

const SQL = {
  list: pgStatement<[], ProxyDrain>('SELECT * FROM proxy_drain ORDER BY name LIMIT 10000', (row) => ({
    name: row.text('name'),
    by: row.text('drained_by'),
    at: new Date(row.text('drained_at')),
  })),
  drain: pgStatement<[string, string]>('INSERT INTO proxy_drain VALUES ($1, $2, clock_timestamp()) ON CONFLICT DO NOTHING'),
  resume: pgStatement<[string]>('DELETE FROM proxy_drain WHERE name = $1'),
}
