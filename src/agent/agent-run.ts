import { anySignal, type RunRecord, toAgentError } from '../core/index.ts'
import type { Agent } from './agent.ts'
import { AGENT_JOB, assertSoleAgent } from './agent-lock.ts'
import type { Dispatcher } from './dispatcher.ts'

export type AgentRunOptions = {
  readonly agent: Agent
  readonly dispatcher: Dispatcher
  /** Aborted: nothing new begins; what runs may end for `graceMs`. */
  readonly stop: AbortSignal
  /** Called when the time is over that running backups have: aborts the agent's own signal, which cancels them. */
  readonly cancel: () => void
  readonly graceMs: number
  readonly once?: boolean | undefined
  /** The queue in words, as often as it changes. */
  readonly onQueue?: ((words: string) => void) | undefined
  /** Called when it was told to end, with how many backups run. */
  readonly onEnding?: ((running: number) => void) | undefined
  /** Called when it works: it is the only one, and what a dead one left is released. */
  readonly onReady?: (() => void | Promise<void>) | undefined
  /** Called when nothing runs any more, and it still is the only one. */
  readonly onEnd?: (() => Promise<void>) | undefined
}

/** What the queue holds is written into the journal so often, for `vcb status`, ms. */
const SHOW_MS = 2000

/**
 * The agent's life in this process: one job of the journal from its first moment to its last, so that there is only one, and `vcb status` shows it. Recovers first.
 * With `once`, the records of what ran. Errors: CONFLICT (another agent), and what concerns all runs.
 */
export async function runAgent({
  agent,
  dispatcher,
  stop,
  cancel,
  graceMs,
  once,
  onQueue,
  onEnding,
  onReady,
  onEnd,
}: AgentRunOptions): Promise<readonly RunRecord[]> {
  const { clock, log, journal, processes } = agent
  const installation = agent.marks.agent
  return agent.job(
    AGENT_JOB,
    { installation },
    async (claims, signal) => {
      await assertSoleAgent(journal, processes, claims.job, { installation })
      await agent.recoverFirst()
      await onReady?.()
      const over = new AbortController()
      const ends = anySignal(stop, signal, over.signal) ?? stop
      const onError = (what: string) => (error: unknown) => log.warn(what, { error: toAgentError(error).message })
      let shown = ''
      const show = async (): Promise<void> => {
        const words = queueInWords(dispatcher)
        if (words === shown) return
        onQueue?.(words)
        await journal.waits(claims.job, words)
        shown = words
      }
      using _shown = clock.every(SHOW_MS, show, onError('the queue could not be shown'))
      const work = dispatcher.run({ stop: ends, once }).finally(() => over.abort())
      const grace = async (): Promise<void> => {
        await untilAborted(ends)
        if (over.signal.aborted) return
        onEnding?.(dispatcher.running.length)
        log.info('the agent ends: nothing new begins, and what runs has its time', { running: dispatcher.running.length, graceMs })
        try {
          await clock.sleep(graceMs, { signal: over.signal })
        } catch {
          // Everything has ended in time.
          return
        }
        cancel()
      }
      await Promise.all([work, grace()])
      await onEnd?.()
      return dispatcher.ended
    },
    { ofParts: true },
  )
}

const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

/** `3 run, 12 wait, 2 of them for another job; the next is due at 2026-…` */
function queueInWords(dispatcher: Dispatcher): string {
  const { running, waiting, draining, nextLook } = dispatcher
  const busy = waiting.filter(({ busySince }) => busySince !== undefined).length
  const parts = [
    `${running.length} ${running.length === 1 ? 'runs' : 'run'}`,
    `${waiting.length} ${waiting.length === 1 ? 'waits' : 'wait'}`,
  ]
  if (busy > 0) parts.push(`${busy} of them for another job`)
  const next = waiting.length > 0 || nextLook === undefined ? '' : `; looks again at ${nextLook.toISOString()}`
  return `${draining ? 'begins nothing new, ' : ''}${parts.join(', ')}${next}`
}
