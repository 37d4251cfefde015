/** How far the renewal of a repository's Object Locks is. Moments are ISO 8601 in UTC. */
export type RenewalRecord = {
  /** When the last one came to its end; undefined: none has. */
  readonly renewedAt: string | undefined
  /** Points that were not protected as long as they are to be after it. */
  readonly short: number
  /** Why the last one did not come to its end, and when; undefined when it did. */
  readonly problem: { readonly what: string; readonly at: string } | undefined
}

/** The same of each repository by its URL, kept over restarts and for all proxies that share the state. Each call is atomic. */
export interface RepositoryRenewals {
  /** Every one that was ever renewed, or tried. */
  all(): Promise<ReadonlyMap<string, RenewalRecord>>
  /** One came to its end. */
  renewed(repository: string, at: Date, short: number): Promise<void>
  /** One did not, for a reason that does not pass by itself. */
  failed(repository: string, at: Date, what: string): Promise<void>
}
