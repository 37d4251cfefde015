import { AsyncLocalStorage } from 'node:async_hooks'
import type { LogFields, RunId } from '../core/index.ts'

/** What a line of the log belongs to: the run of a VM, or what follows the runs of a job. */
export type RunScope = { readonly run?: RunId | undefined; readonly vm?: string | undefined; readonly job?: string | undefined }

const scope = new AsyncLocalStorage<RunScope>()

/** Every line that `work` logs, and whatever it calls and waits for, names this run. Connections and timers that outlive it are begun with `outsideRuns`. */
export const insideRun = <T>(run: RunScope, work: () => T): T => scope.run(run, work)

/** What several runs share is nobody's run: a session's keep-alive that the first run began would bear its name for ever. */
export const outsideRuns = <T>(work: () => T): T => scope.exit(work)

/** The run that this moment belongs to, as fields of a line; empty outside. */
export const runFields = (): LogFields => scope.getStore() ?? {}
