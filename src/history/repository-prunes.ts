/** When each repository was pruned last, by whichever command or proxy. */
export interface RepositoryPrunes {
  /** `url`: as its provider shows it. Undefined when it never was, as far as is known. */
  last(url: string): Promise<Date | undefined>
  /** It was pruned, or it turned out that it cannot be. Idempotent; an earlier moment changes nothing. */
  note(url: string, at: Date): Promise<void>
}
