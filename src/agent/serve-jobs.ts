import type { RunRecord } from '../core/index.ts'
import { AfterCycle, type FailedWork } from './after-cycle.ts'
import { copyWork } from './after-copy.ts'
import { pruneWork } from './after-prune.ts'
import { renewalWork } from './after-renewal.ts'
import { retentionWork } from './after-retention.ts'
import type { Agent } from './agent.ts'
import { runAgent } from './agent-run.ts'
import { tellFindings, yieldWork } from './beside-checks.ts'
import type { AfterCheck } from './check-ended.ts'
import type { AgentConfig } from './config/config.ts'
import { DEFAULT_REPOSITORY } from './config/repositories.ts'
import { createControl } from './control.ts'
import { Dispatcher } from './dispatcher.ts'
import { EventHub } from './event-hub.ts'
import { Notifier } from './notify.ts'
import { openDueClaims } from './open-due-claims.ts'
import { createReload } from './reload.ts'
import { RepositoryChecker } from './repository-checker.ts'
import type { AfterRun, RunEnded } from './run-ended.ts'
import { RunTotals } from './run-totals.ts'
import { startApi } from './start-api.ts'
import { noSupervisor, type Supervisor } from './supervisor.ts'
import { takeOverDead } from './take-over.ts'

export type ServeOptions = {
  /** Aborted: nothing new begins, and it ends when what runs has ended. */
  readonly stop: AbortSignal
  /** Called when the time of running backups is over: aborts the agent's own signal. */
  readonly cancel: () => void
  readonly once: boolean
  /** Whether the control API is opened. */
  readonly api: boolean
  /** The configuration as its files say it now, for a reload. */
  readonly load: () => Promise<AgentConfig>
  readonly version: string
  /** The service manager that started this process. */
  readonly supervisor?: Supervisor | undefined
  /** Called at the beginning with what reads the configuration again; it fails for nobody. */
  readonly onReloadable?: ((reload: () => void) => void) | undefined
  readonly followers?: readonly AfterRun[] | undefined
  /** Told of each check of a repository. */
  readonly checkFollowers?: readonly AfterCheck[] | undefined
  /** Called when it works. `where`: the control API. */
  readonly onReady?: ((where: string | undefined) => void) | undefined
}

/**
 * `vcb agent`: the jobs of the configuration as they are due, with the queue of several proxies where there is one, the control API, and a look for what dead
 * processes left. Returns, with `once`, what ran. Errors: CONFLICT (another agent), CONFIG, and what concerns all runs.
 */
export async function serveJobs(agent: Agent, options: ServeOptions): Promise<readonly RunRecord[]> {
  await using stack = new AsyncDisposableStack()
  const events = new EventHub()
  const totals = new RunTotals()
  let dispatcher: Dispatcher | undefined
  const claims = stack.use(await openDueClaims(agent, () => dispatcher?.config ?? agent.config))
  const isBusy = (repository: string): boolean =>
    [...(dispatcher?.running ?? []), ...(dispatcher?.waiting ?? [])].some(
      ({ job }) => (job?.repository ?? DEFAULT_REPOSITORY) === repository,
    )
  const config = (): AgentConfig => dispatcher?.config ?? agent.config
  let notifier: Notifier | undefined
  const failed: FailedWork = async (...what) => notifier?.failed(...what)
  const checker = new RepositoryChecker({
    agent,
    config,
    isBusy,
    followers: [tellFindings(events, config, failed), ...(options.checkFollowers ?? [])],
    stop: options.stop,
  })
  const followers = [
    totals,
    { name: 'notices', after: async (ended: RunEnded) => notifier?.after(ended) },
    // What is new is protected first. Then a copy: what the policy takes away at once is to be in the other repository. A prune last: it frees what the policy took away.
    new AfterCycle(
      [
        renewalWork(agent, config, 'points', failed),
        yieldWork(() => checker),
        copyWork(agent, config),
        renewalWork(agent, config, 'copies', failed),
        retentionWork(agent, config),
        yieldWork(() => checker),
        pruneWork(agent, config),
      ],
      isBusy,
      agent,
      failed,
    ),
    ...(options.followers ?? []),
  ]
  const runs = stack.use(new Dispatcher({ agent, claims, followers, onEvent: (event) => events.tell(event) }))
  dispatcher = runs
  const { stop, cancel, once, load, version, supervisor = noSupervisor } = options
  const reload = createReload({ agent, dispatcher: runs, events, supervisor, load })
  // Whoever sends a signal hears nothing: the reload itself tells what is wrong.
  options.onReloadable?.(() => void reload().catch(() => undefined))
  const control = createControl({ agent, dispatcher: runs, events, totals, reload, version })
  return await runAgent({
    agent,
    dispatcher: runs,
    stop,
    cancel,
    graceMs: agent.config.agent.graceMs,
    once,
    onQueue: (words) => supervisor.status(words),
    onEnding: (running) => supervisor.stopping(`It ends: ${running} backups may end, nothing new begins.`),
    onEnd: async () => notifier?.end(),
    onReady: async () => {
      const telling = new Notifier(agent, runs, { once })
      stack.defer(() => telling.end())
      notifier = telling
      stack.use(takeOverDead(agent))
      if (!once) stack.use(checker).start()
      const api = options.api ? stack.use(await startApi(agent, control, version)) : undefined
      options.onReady?.(api?.socket ?? (api?.port === undefined ? undefined : `port ${api.port}`))
      supervisor.ready(`The agent runs ${dispatcher?.config.jobs.length ?? 0} jobs.`)
    },
  })
}
