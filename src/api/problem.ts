import type { AgentError, ErrorCode } from '../core/index.ts'
import { z } from 'zod'
import { errorCode } from './view.ts'

/** RFC 9457, with the code, the next step and the subject of an `AgentError` beside its own members. */
export const problemView = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: errorCode,
  next: z.string(),
  subject: z.string().optional(),
  errors: z.array(z.object({ at: z.string(), message: z.string() })).optional(),
})
export type Problem = z.output<typeof problemView>

export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8'

const STATUS: Readonly<Record<ErrorCode, number>> = {
  INTERNAL: 500,
  USAGE: 400,
  CONFIG: 422,
  AUTH: 502,
  NOT_FOUND: 404,
  CONFLICT: 409,
  UNAVAILABLE: 503,
  GUEST: 502,
  INTEGRITY: 502,
  CAPACITY: 507,
  CANCELED: 503,
  PARTIAL: 502,
}

const TITLE: Readonly<Record<ErrorCode, string>> = {
  INTERNAL: 'Defect',
  USAGE: 'Wrong request',
  CONFIG: 'Wrong configuration',
  AUTH: 'Refused by another system',
  NOT_FOUND: 'Not found',
  CONFLICT: 'In the way',
  UNAVAILABLE: 'Not available',
  GUEST: 'Guest failed',
  INTEGRITY: 'Damaged data',
  CAPACITY: 'No space',
  CANCELED: 'Canceled',
  PARTIAL: 'Partly failed',
}

/** What a caller is told of an error. Of a defect nothing but that it is one: what it says is for the log. */
export function problemOf(error: AgentError, id: string): Problem {
  const defect = error.code === 'INTERNAL'
  return {
    type: `urn:vcb-proxy:error:${error.code}`,
    title: TITLE[error.code],
    status: STATUS[error.code],
    detail: defect ? `The agent met a defect; its log tells it under the id ${id}.` : error.message,
    code: error.code,
    next: error.next,
    ...(error.subject === undefined ? {} : { subject: error.subject }),
  }
}

/** A refusal of HTTP itself, before any of our code decides. */
export function refusal(status: number, title: string, detail: string, next: string): Problem {
  const code: ErrorCode =
    status === 401 || status === 403 ? 'AUTH' : status === 404 ? 'NOT_FOUND' : status === 429 || status >= 500 ? 'UNAVAILABLE' : 'USAGE'
  return { type: 'about:blank', title, status, detail, code, next }
}

/** A wrong call, with each thing that is wrong about it. */
export class WrongCall extends Error {
  readonly errors: readonly { readonly at: string; readonly message: string }[]

  constructor(issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[]) {
    super('wrong call')
    this.errors = issues
      .slice(0, 10)
      .map(({ path, message }) => ({ at: path.map(String).join('.').slice(0, 200), message: message.slice(0, 200) }))
  }

  problem(): Problem {
    const said = this.errors.map(({ at, message }) => (at === '' ? message : `${at}: ${message}`)).join('; ')
    const detail = `The request is not what this route takes: ${said}.`
    return { ...refusal(400, 'Wrong request', detail, 'See /openapi.json for what each route takes.'), errors: [...this.errors] }
  }
}
