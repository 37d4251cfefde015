import type { FileKind } from './backend.ts'

export type KnownKind = Exclude<FileKind, 'lock'> | 'tree'

/**
 * Until when the server of a repository keeps which file, and at least everything below a tree, as far as this proxy was told (docs/formats/lock-ends.md). It may be lost without harm. Calls never fail. Moments are ms since
 * 1970, names hex but for the configuration.
 */
export interface LockEnds extends Disposable {
  /** Undefined where it was never told. */
  get(kind: KnownKind, name: string): number | undefined
  /** The server has said so. */
  set(kind: KnownKind, name: string, until: number): void
  /** Before each renewal; once a day it forgets what is over, and a share of the rest. */
  sweep(): Promise<void>
}

/** Opens them in a directory of the repository's own, which may be missing. */
export type OpenLockEnds = (directory: string) => Promise<LockEnds>

/** For one renewal: where nothing is remembered on the local disk. */
export function memoryLockEnds(): LockEnds {
  const known = new Map<string, number>()
  return {
    get: (kind, name) => known.get(`${kind} ${name}`),
    set: (kind, name, until) => void known.set(`${kind} ${name}`, until),
    sweep: async () => undefined,
    [Symbol.dispose]: () => known.clear(),
  }
}
