/** What is to be done once, by whichever proxy has room. */
export type WorkItem = {
  /** Names this work for ever: asked for again, it is the same. */
  readonly key: string
  /** What no two works are about at once: a VM. */
  readonly about: string
  /** Plain JSON, for who looks at the queue. */
  readonly data: object
}

/** Work that this process has taken and answers for. */
export type TakenWork = {
  readonly id: string
  /** How often it was taken before, by proxies that died of it. */
  readonly before: number
}

/**
 * Work that several proxies know of and one does. What a proxy takes and does not keep for HEARTBEAT_S is given to another one. Errors: UNAVAILABLE and the others
 * of `PgState`.
 */
export interface WorkQueue extends AsyncDisposable {
  /** Exactly one proxy gets a work. Undefined: another one has it, or has done it, or does other work about the same thing. */
  take(item: WorkItem): Promise<TakenWork | undefined>
  /** Says that these are still being done. Several times within HEARTBEAT_S. */
  keep(work: readonly TakenWork[]): Promise<void>
  /** It is over, however it went; nobody gets it again. Idempotent. */
  done(work: TakenWork): Promise<void>
  /** It was not done after all; whoever asks next gets it. Idempotent. */
  giveUp(work: TakenWork): Promise<void>
}

/** Work that was not kept for so long is given to another proxy, within MONITOR_S more. A proxy that is silent stops before (FENCE_AFTER_MS). Seconds. */
export const HEARTBEAT_S = 30
export const MONITOR_S = 5
