import type { z } from 'zod'
import type { AgentControl, Caller, Role } from './agent-control.ts'
import { WrongCall } from './problem.ts'

/** What a route's handler gets: checked, and who asks. */
export type Call<Query, Body> = {
  readonly query: Query
  readonly body: Body
  readonly caller: Caller
  /** Aborts when the caller is gone, or has waited long enough. Orders are carried out regardless. */
  readonly signal: AbortSignal
}

type Described = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** `operationId` of the document; of an order the action in the audit log. */
  readonly id: string
  readonly summary: string
  readonly role: Role
  readonly query?: z.ZodObject | undefined
  readonly body?: z.ZodType | undefined
  /** Written down before it is done and after. */
  readonly order: boolean
  /** Of a route that answers with JSON; `name` among the schemas of the document. */
  readonly answer:
    | { readonly status: number; readonly name: string; readonly schema: z.ZodType; readonly list?: boolean | undefined }
    | undefined
  /** Otherwise. */
  readonly mediaType?: string | undefined
}

/** One route, as the server registers it and the OpenAPI document describes it. */
export type Route = Described & {
  /** Checks what the caller sent (`WrongCall`), and asks the agent. */
  readonly parse: (sent: { readonly query: unknown; readonly body: unknown }) => { readonly query: unknown; readonly body: unknown }
  readonly handle?: ((control: AgentControl, call: Call<unknown, unknown>) => Promise<unknown>) | undefined
}

type Init<Query extends z.ZodObject, Body extends z.ZodType> = Omit<Described, 'query' | 'body' | 'order'> & {
  readonly query?: Query
  readonly body?: Body
  readonly order?: boolean
  readonly handle?: (control: AgentControl, call: Call<z.output<Query>, z.output<Body>>) => Promise<unknown>
}

/** Checks that `handle` takes what the schemas give, and forgets the types. */
export function route<Query extends z.ZodObject, Body extends z.ZodType>(init: Init<Query, Body>): Route {
  const { query, body, handle } = init
  return Object.freeze({
    ...init,
    order: init.order === true,
    parse: (sent: { readonly query: unknown; readonly body: unknown }) => ({
      query: checked(query, sent.query),
      body: checked(body, sent.body),
    }),
    handle:
      handle === undefined
        ? undefined
        : (control: AgentControl, call: Call<unknown, unknown>) => handle(control, call as Call<z.output<Query>, z.output<Body>>),
  })
}

function checked(schema: z.ZodType | undefined, sent: unknown): unknown {
  if (schema === undefined) return undefined
  const { success, data, error } = schema.safeParse(sent)
  if (!success) throw new WrongCall(error.issues)
  return data
}
