import type { Abortable } from '../core/index.ts'

/** How one who waits for a token tells of it. */
export type Waiting = {
  /** Called at once when there is none, with what is waited for in words; the answer is disposed when the wait is over, however it ends. */
  readonly onWait?: ((wait: string) => Disposable) | undefined
}

export type TakeOptions = Abortable &
  Waiting & {
    /** Who takes it, for the others who wait: a VM's name. */
    readonly holder?: string | undefined
  }

/** One of a limited number. Disposal gives it back, once, and never fails: what cannot be told ends with the process that took it. */
export type Token = AsyncDisposable & {
  /** There was none at first. */
  readonly waited: boolean
}

/** A limited number of something shared: NFC sessions of a host, streams of a datastore. Tokens are given out in the order asked for. */
export interface Tokens {
  /** What there is a limited number of: `disk streams of datastore nfs1`. */
  readonly name: string
  readonly limit: number
  /** One token, waiting for it. Once for a session, a stream, a snapshot; never for a block. CANCELED while waiting. */
  take(options?: TakeOptions): Promise<Token>
  /** One token if one is free now and nobody waits for it. */
  tryTake(holder?: string): Promise<Token | undefined>
}

/** Who has a token, or waits for one. */
export type TokenUse = {
  readonly holder: string
  /** The process; undefined where only this one counts. */
  readonly pid?: number | undefined
  /** Its machine; undefined where there is only this one. */
  readonly host?: string | undefined
  readonly waits: boolean
}

export type BucketUse = { readonly name: string; readonly limit: number; readonly uses: readonly TokenUse[] }

/**
 * Where limited things are counted: in this process alone (`createMemoryBuckets`), over all processes of a proxy (`createSharedBuckets`) or over all proxies of a database (`createPgBuckets`). A token belongs to the
 * process that took it and ends with it at the latest. Each process brings its own limit; what is counted is counted for all.
 */
export interface Buckets {
  /** The same things for the same key, which says what they are everywhere that counts together. */
  tokens(key: string, name: string, limit: number): Tokens
  /** Every bucket that somebody alive uses or waits for; in each, in the order asked. */
  inUse(): Promise<readonly BucketUse[]>
}

/** Holders named to one who waits. */
const NAMED = 4

/** `waits for one of the disk streams of datastore nfs1: 2 of 2 in use by web, db` */
export function waitInWords({ name, limit }: Pick<Tokens, 'name' | 'limit'>, holders: readonly string[]): string {
  const names = [...new Set(holders)].filter((holder) => holder !== '')
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : ''
  const by = names.length === 0 ? '' : ` by ${names.slice(0, NAMED).join(', ')}${more}`
  return `waits for one of the ${name}: ${holders.length} of ${limit} in use${by}`
}
