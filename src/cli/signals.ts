import { AgentError, type Clock } from '../core/index.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** One press of Ctrl-C may arrive twice, from the terminal and from a parent that hands it on. ms */
const ONE_PRESS = 300

/** Who takes SIGHUP for something else than the end, as `vcb agent` does, until disposed of. One at a time. */
export type OnHangup = (listener: () => void) => Disposable

/**
 * The first signal cancels, the second ends the waiting, and a third does what it does to any process. Once per process, until disposed. SIGHUP is a signal as the others
 * unless somebody takes it.
 */
export function listenToSignals(
  clock: Clock,
  err: (text: string) => void,
): Disposable & { readonly canceled: AbortSignal; readonly giveUp: AbortSignal; readonly onHangup: OnHangup } {
  const canceled = new AbortController()
  const giveUp = new AbortController()
  let last = Number.NEGATIVE_INFINITY
  let hangup: (() => void) | undefined
  const stop = (): void => {
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
  const onSignal = (signal: NodeJS.Signals): void => {
    if (signal === 'SIGHUP' && hangup !== undefined) return hangup()
    const now = clock.monotonicMs()
    if (now - last < ONE_PRESS) return
    last = now
    if (!canceled.signal.aborted) {
      err(`vcb: ${signal} was received; what is held is being released. A second signal ends the waiting.\n`)
      canceled.abort(new AgentError('CANCELED', `${signal} was received; what was held is being released.`))
    } else if (!giveUp.signal.aborted) {
      giveUp.abort(new AgentError('CANCELED', `${signal} was received again; nothing more is waited for.`))
      void clock.sleep(ONE_PRESS).then(stop)
    }
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
  const onHangup: OnHangup = (listener) => {
    hangup = listener
    return { [Symbol.dispose]: () => void (hangup = undefined) }
  }
  return { canceled: canceled.signal, giveUp: giveUp.signal, onHangup, [Symbol.dispose]: stop }
}
