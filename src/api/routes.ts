import { z } from 'zod'
import { jobView, planQuery, planView } from './plan-view.ts'
import { type Route, route } from './route.ts'
import { cancelRequest, canceledView, historyQuery, pointQuery, pointView, runRecordView, runRequest, startedRuns } from './run-view.ts'
import { agentStatusView } from './status-view.ts'

/** Rows of a list when the caller does not say how many. */
const SOME_ROWS = 100

/** Every route there is; those without a handler the server answers itself. */
export const ROUTES: readonly Route[] = Object.freeze([
  route({
    method: 'GET',
    path: '/v1/status',
    id: 'status',
    summary: 'The queue, what runs and how far it is, what is held, and the limits',
    role: 'viewer',
    answer: { status: 200, name: 'Status', schema: agentStatusView },
    handle: (control) => control.status(),
  }),
  route({
    method: 'GET',
    path: '/v1/jobs',
    id: 'jobs',
    summary: 'The configured jobs, their VMs, and when each runs next',
    role: 'viewer',
    answer: { status: 200, name: 'Job', schema: jobView, list: true },
    handle: (control, { signal }) => control.jobs({ signal }),
  }),
  route({
    method: 'POST',
    path: '/v1/runs',
    id: 'run',
    summary: 'Back up now: the VMs of a job, or those that expressions select. Returns when the runs are in the queue',
    role: 'operator',
    order: true,
    body: runRequest,
    answer: { status: 202, name: 'StartedRuns', schema: startedRuns },
    handle: (control, { body, caller }) => control.run(body, caller),
  }),
  route({
    method: 'POST',
    path: '/v1/cancel',
    id: 'cancel',
    summary: 'End in order what runs or waits: a run, a job of the journal, or what is done with a VM',
    role: 'operator',
    order: true,
    body: cancelRequest,
    answer: { status: 202, name: 'Canceled', schema: canceledView, list: true },
    handle: (control, { body, caller }) => control.cancel(body.target, caller),
  }),
  route({
    method: 'GET',
    path: '/v1/history',
    id: 'history',
    summary: 'Runs that ended, newest first',
    role: 'viewer',
    query: historyQuery,
    answer: { status: 200, name: 'RunRecord', schema: runRecordView, list: true },
    handle: (control, { query }) => control.history({ ...query, limit: query.limit ?? SOME_ROWS }),
  }),
  route({
    method: 'GET',
    path: '/v1/plan',
    id: 'plan',
    summary: 'What will run when, by the code that decides it',
    role: 'viewer',
    query: planQuery,
    answer: { status: 200, name: 'Plan', schema: planView },
    handle: (control, { query: { from, to, job }, signal }) => control.plan({ from: new Date(from), to: new Date(to), job }, { signal }),
  }),
  route({
    method: 'GET',
    path: '/v1/points',
    id: 'points',
    summary: 'Restore points that the catalog knows, newest first',
    role: 'viewer',
    query: pointQuery,
    answer: { status: 200, name: 'Point', schema: pointView, list: true },
    handle: (control, { query }) => control.points({ ...query, limit: query.limit ?? SOME_ROWS }),
  }),
  route({
    method: 'POST',
    path: '/v1/drain',
    id: 'drain',
    summary: 'Begin nothing new, or begin again',
    role: 'admin',
    order: true,
    body: z.strictObject({ on: z.boolean() }),
    answer: { status: 200, name: 'Draining', schema: z.object({ draining: z.boolean() }) },
    handle: async (control, { body: { on }, caller }) => {
      await control.drain(on, caller)
      return { draining: on }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/reload',
    id: 'reload',
    summary: 'Read the configuration again. A wrong one is refused, and the old one stays in force',
    role: 'admin',
    order: true,
    answer: { status: 200, name: 'Reloaded', schema: z.object({ changed: z.array(z.string()) }) },
    handle: (control, { caller }) => control.reload(caller),
  }),
  route({
    method: 'GET',
    path: '/v1/events',
    id: 'events',
    summary:
      'What happens, as server-sent events: waiting, begun, progress, ended, notice. Last-Event-ID is heeded; "missed" tells of a gap',
    role: 'viewer',
    answer: undefined,
    mediaType: 'text/event-stream',
  }),
  route({
    method: 'GET',
    path: '/metrics',
    id: 'metrics',
    summary: 'Figures for Prometheus',
    role: 'viewer',
    answer: undefined,
    mediaType: 'text/plain; version=0.0.4; charset=utf-8',
  }),
  route({
    method: 'GET',
    path: '/healthz',
    id: 'healthz',
    summary: 'The agent answers',
    role: 'viewer',
    answer: { status: 200, name: 'Health', schema: z.object({ status: z.literal('ok') }) },
    handle: () => Promise.resolve({ status: 'ok' }),
  }),
  route({
    method: 'GET',
    path: '/readyz',
    id: 'readyz',
    summary: 'The agent takes runs; 503 while it is drained or its state cannot be read',
    role: 'viewer',
    answer: { status: 200, name: 'Readiness', schema: z.object({ status: z.literal('ready') }) },
  }),
  route({
    method: 'GET',
    path: '/openapi.json',
    id: 'openapi',
    summary: 'This document',
    role: 'viewer',
    answer: { status: 200, name: 'OpenApi', schema: z.looseObject({ openapi: z.string() }) },
  }),
])
