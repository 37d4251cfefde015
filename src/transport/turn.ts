/** A token that is written down, held or waited for. */
export type TokenRow = {
  /** In the order asked, over all processes. */
  readonly id: number
  readonly held: boolean
}

/** Whether one that waits may have a token: those that are held, and those that asked before it, leave one of the `limit`. */
export function isTurn(rows: readonly TokenRow[], id: number, limit: number): boolean {
  const held = rows.filter((row) => row.held).length
  const before = rows.filter((row) => !row.held && row.id < id).length
  return held + before < limit
}
