import type { Abortable, ClaimId, Clock, Log } from '../core/index.ts'
import { passesByItself, patiently } from '../vsphere/index.ts'

/** How long releases at vSphere are tried again while it is away, busy, or holds a file locked. */
export type ReleasePatience = {
  /** Does `work`, again with growing pauses while its error passes by itself, for what is left of the claim's time; at least once. */
  run<T>(claim: ClaimId, subject: string, options: Abortable | undefined, work: () => Promise<T>): Promise<T>
}

/**
 * `forMs` counts from the first try for a claim in this process, so that a release at the end of its job does not begin to wait anew for what was
 * already waited for in vain. 0 = one try each: recovery, which has its own pace.
 */
export function createReleasePatience(options: { readonly clock: Clock; readonly log: Log; readonly forMs: number }): ReleasePatience {
  const { clock, log, forMs } = options
  const since = new Map<ClaimId, number>()
  return {
    run: (claim, subject, abortable, work) => {
      const now = clock.monotonicMs()
      const first = since.get(claim) ?? now
      since.set(claim, first)
      const left = Math.max(0, forMs - (now - first))
      return patiently({ clock, log, subject, forMs: left, signal: abortable?.signal, passes: passesByItself }, work)
    },
  }
}
