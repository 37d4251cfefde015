import { anySignal, type Clock, throwIfAborted } from '../core/index.ts'
import { type TakeOptions, type Tokens, waitInWords } from './buckets.ts'

/** A token that is written down, held or waited for. */
export type TokenRow = {
  /** In the order asked, over all processes. */
  readonly id: number
  readonly held: boolean
  readonly holder: string
}

/** Whether one that waits may have a token: those that are held, and those that asked before it, leave one of the `limit`. */
export function isTurn(rows: readonly Pick<TokenRow, 'id' | 'held'>[], id: number, limit: number): boolean {
  const held = rows.filter((row) => row.held).length
  const before = rows.filter((row) => !row.held && row.id < id).length
  return held + before < limit
}

/** Who waits in a shared bucket, and how. */
export type Waiting = {
  readonly clock: Clock
  /** How often one who waits looks, ms. */
  readonly lookMs: number
  /** Wakes every waiting one of this process: what it gives back is seen at once. */
  readonly waking: Set<() => void>
}

/**
 * Looks until a look has taken the token, every `lookMs` and whenever this process gives one back; `onWait` is told once, with who has them. Throws what a look
 * throws, and CANCELED.
 */
export async function waitForTurn(
  tokens: Pick<Tokens, 'name' | 'limit'>,
  { clock, lookMs, waking }: Waiting,
  options: TakeOptions | undefined,
  look: () => Promise<{ readonly rows: readonly TokenRow[]; readonly taken: boolean }>,
): Promise<void> {
  let told: Disposable | undefined
  try {
    for (;;) {
      const wake = new AbortController()
      const call = (): void => wake.abort()
      waking.add(call)
      try {
        const { rows, taken } = await look()
        if (taken) return
        const holders = rows.filter(({ held }) => held).map(({ holder }) => holder)
        told ??= options?.onWait?.(waitInWords(tokens, holders))
        throwIfAborted(options)
        await clock.sleep(lookMs, { signal: anySignal(options?.signal, wake.signal) })
      } catch (error) {
        throwIfAborted(options)
        if (!wake.signal.aborted) throw error
      } finally {
        waking.delete(call)
      }
    }
  } finally {
    told?.[Symbol.dispose]()
  }
}
