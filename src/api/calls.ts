import { z } from 'zod'
import type { Abortable } from '../core/index.ts'
import type { ApiClient } from './client.ts'
import { jobView, planView } from './plan-view.ts'
import { canceledView, runRecordView, startedRuns, type RunRequest } from './run-view.ts'
import { agentStatusView } from './status-view.ts'

/* What commands ask of a running agent, by name. */

export const askStatus = (client: ApiClient, options?: Abortable) =>
  client.ask({ method: 'GET', path: '/v1/status', answer: agentStatusView }, options)

export const askJobs = (client: ApiClient, options?: Abortable) =>
  client.ask({ method: 'GET', path: '/v1/jobs', answer: z.array(jobView) }, options)

export const askPlan = (
  client: ApiClient,
  query: { readonly from: string; readonly to: string; readonly job?: string | undefined },
  options?: Abortable,
) => client.ask({ method: 'GET', path: '/v1/plan', query, answer: planView }, options)

/** Newest first. */
export const askHistory = (client: ApiClient, query: Readonly<Record<string, string | undefined>>, options?: Abortable) =>
  client.ask({ method: 'GET', path: '/v1/history', query, answer: z.array(runRecordView) }, options)

export const askRun = (client: ApiClient, body: RunRequest, options?: Abortable) =>
  client.ask({ method: 'POST', path: '/v1/runs', body, answer: startedRuns }, options)

export const askCancel = (client: ApiClient, target: string, options?: Abortable) =>
  client.ask({ method: 'POST', path: '/v1/cancel', body: { target }, answer: z.array(canceledView) }, options)

export const askDrain = (client: ApiClient, on: boolean, options?: Abortable) =>
  client.ask({ method: 'POST', path: '/v1/drain', body: { on }, answer: z.object({ draining: z.boolean() }) }, options)

export const askReload = (client: ApiClient, options?: Abortable) =>
  client.ask({ method: 'POST', path: '/v1/reload', answer: z.object({ changed: z.array(z.string()) }) }, options)
