import { AgentError, type Clock } from '../core/index.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** One press of Ctrl-C may arrive twice, from the terminal and from a parent that hands it on. ms */
const ONE_PRESS = 300

/** The first signal cancels, the second ends the waiting, and a third does what it does to any process. Once per process, until disposed. */
export function listenToSignals(
  clock: Clock,
  err: (text: string) => void,
): Disposable & { readonly canceled: AbortSignal; readonly giveUp: AbortSignal } {
  const canceled = new AbortController()
  const giveUp = new AbortController()
  let last = Number.NEGATIVE_INFINITY
  const stop = (): void => {
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
  const onSignal = (signal: NodeJS.Signals): void => {
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
  return { canceled: canceled.signal, giveUp: giveUp.signal, [Symbol.dispose]: stop }
}
