import { randomBytes } from 'node:crypto'
import { type Clock, type Log, silentLog, systemClock } from '../src/core/index.ts'
import { type RepositoryPlace, restBackend, type RestBackendDeps } from '../src/restic/index.ts'

export type RestPlaceOptions = Partial<Pick<RestBackendDeps, 'login' | 'trust' | 'silenceMs'>> & {
  readonly name?: string
  readonly clock?: Clock
  readonly log?: Log
}

/** A repository of its own at a REST server, as our backend reaches it. */
export function restPlace(origin: string, options: RestPlaceOptions = {}): RepositoryPlace {
  const { clock = systemClock, log = silentLog, name = `repo-${randomBytes(4).toString('hex')}`, ...more } = options
  const base = `${origin}/${name}/`
  const none = async () => undefined
  return restBackend({ clock, log, random: randomBytes, base, url: `rest:${base}`, login: none, trust: async () => ({}), ...more })
}
