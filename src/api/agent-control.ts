import type { Abortable, PointSummary, RunRecord } from '../core/index.ts'
import type { AgentEvent } from './event-view.ts'
import type { MetricFacts } from './metric-facts.ts'
import type { JobView, PlanView } from './plan-view.ts'
import type { CanceledView, HistoryQuery, PointQueryView, RunRequest, StartedRuns } from './run-view.ts'
import type { AgentStatusView } from './status-view.ts'

export type Role = 'viewer' | 'operator' | 'admin'

/** Who asks. */
export type Caller = {
  /** A token's name, or who connected to the socket. */
  readonly name: string
  readonly role: Role
  /** `socket`, or the address of the other side. */
  readonly via: string
}

/** What can be seen of a running agent. Nothing is changed. Errors of all: UNAVAILABLE and what vSphere answers. */
export interface AgentViews {
  /** The queue, and the journal of the state directory. No vCenter is asked. */
  status(): Promise<AgentStatusView>
  /** The configured jobs with the VMs their selections last named. */
  jobs(options?: Abortable): Promise<readonly JobView[]>
  /** Newest first. */
  history(query: HistoryQuery): Promise<readonly RunRecord[]>
  /** NOT_FOUND for a job there is not, USAGE for more runs than anybody reads. */
  plan(range: { readonly from: Date; readonly to: Date; readonly job?: string | undefined }, options?: Abortable): Promise<PlanView>
  /** Of the catalog, newest first. */
  points(query: PointQueryView): Promise<readonly PointSummary[]>
}

/** What can be asked of it. `by` is written down where it is done. */
export interface AgentOrders {
  /** Puts runs into the queue and returns; they end later. NOT_FOUND for a job or VM there is not, CONFLICT while draining. */
  run(request: RunRequest, by: Caller): Promise<StartedRuns>
  /** Asks what runs or waits to end, and returns. NOT_FOUND when nothing fits. Idempotent. */
  cancel(target: string, by: Caller): Promise<readonly CanceledView[]>
  /** True: nothing new begins, what runs ends in its time. Idempotent. */
  drain(on: boolean, by: Caller): Promise<void>
  /** Reads the configuration again; the names of what changed. CONFIG, and the old one stays in force. */
  reload(by: Caller): Promise<{ readonly changed: readonly string[] }>
}

/** What it tells by itself. */
export interface AgentFeed {
  /**
   * From now on, until the signal aborts (which ends it without an error). Taken once by the API for all who listen. It never waits for whoever reads:
   * one too slow misses progress.
   */
  events(options: Abortable): AsyncIterable<AgentEvent>
  facts(): Promise<MetricFacts>
}

/** All that the control API knows of the agent; `src/agent/` implements it. */
export interface AgentControl extends AgentViews, AgentOrders, AgentFeed {}
