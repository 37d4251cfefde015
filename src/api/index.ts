/**
 * Rank 4. The control API of a running agent: who may ask it what, over which connection, and in which form. `AgentControl` is all it knows of the agent,
 * which implements it. Whoever asks loads nothing of what serves.
 */
import { onCall } from '../core/index.ts'

export type { AgentControl, AgentFeed, AgentOrders, AgentViews, Caller, Role } from './agent-control.ts'
export type { AgentEvent } from './event-view.ts'
export type { JobFacts, MetricFacts, VmFacts } from './metric-facts.ts'
export type { JobView, PlanView } from './plan-view.ts'
export type { CanceledView, HistoryQuery, PointQueryView, RunRequest, StartedRuns } from './run-view.ts'
export type { AgentStatusView, ProgressView } from './status-view.ts'
export type { Api, ApiOptions, TcpOptions } from './api.ts'
export { type AuditEntry, AuditLog, type AuditQuery, readAudit } from './audit.ts'
export type { CertificateFiles } from './certificate.ts'
export { type AgentAddress, ApiClient, type ClientCall } from './client.ts'
export type { ReadEvent } from './read-events.ts'
export { askCancel, askDrain, askHistory, askJobs, askPlan, askReload, askRun, askStatus } from './calls.ts'
export { carryOut } from './order.ts'
export type { SocketOptions } from './socket-listener.ts'
export { type TokenFacts, Tokens } from './tokens.ts'

export const openApi = onCall(async () => (await import('./api.ts')).openApi)
