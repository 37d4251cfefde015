import type { KeyStore } from '../restic/index.ts'
import type { Locking } from './provider.ts'
import { resticLocking } from './restic-points.ts'

/** The keys of the repository at `url`, whose locks are told of with it. */
export const resticKeys = (keys: KeyStore, url: string): KeyStore<Locking> => ({
  list: (options) => keys.list(options),
  addRandom: (keep, options) => keys.addRandom(keep, resticLocking(url, options)),
  add: (password, options) => keys.add(password, { ...resticLocking(url, options), recordKey: options?.recordKey }),
  remove: (id, options) => keys.remove(id, resticLocking(url, options)),
})
