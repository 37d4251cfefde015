import { z } from 'zod'
import { problemView } from './problem.ts'
import type { Route } from './route.ts'
import { agentEvent } from './event-view.ts'

type Json = Readonly<Record<string, unknown>>

/** OpenAPI 3.1 (spec.openapis.org/oas/v3.1), whose schemas are JSON Schema 2020-12, as zod writes it. */
export function openApiDocument(routes: readonly Route[], version: string): Json {
  const schemas: Record<string, Json> = { Problem: schemaOf(problemView, 'output'), Event: schemaOf(agentEvent, 'output') }
  const paths: Record<string, Record<string, Json>> = {}
  for (const route of routes) {
    const { answer } = route
    if (answer !== undefined) schemas[answer.name] = schemaOf(answer.schema, 'output')
    ;(paths[route.path] ??= {})[route.method.toLowerCase()] = operation(route)
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'vcb-proxy control API',
      version,
      description: 'Over a Unix socket, whose permissions say who may, or over TLS with bearer tokens.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ token: [] }],
    paths,
    components: {
      schemas,
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'Made by "vcb token add". Not needed on the Unix socket.' },
      },
    },
  }
}

function operation({ id, summary, role, query, body, answer, mediaType }: Route): Json {
  const asked = query === undefined ? undefined : z.toJSONSchema(query, { target: 'draft-2020-12', io: 'input' })
  const { properties = {}, required = [] } = asked ?? {}
  const parameters = Object.entries(properties).map(([name, schema]) => ({ name, in: 'query', required: required.includes(name), schema }))
  const resume = id === 'events' ? [{ name: 'Last-Event-ID', in: 'header', required: false, schema: { type: 'string' } }] : []
  const all = [...parameters, ...resume]
  const problem = {
    description: 'What is wrong, and what to do next (RFC 9457)',
    content: { 'application/problem+json': { schema: ref('Problem') } },
  }
  const good =
    answer === undefined
      ? { [mediaType?.split(';')[0] ?? 'text/plain']: { schema: { type: 'string' } } }
      : { 'application/json': { schema: answer.list === true ? { type: 'array', items: ref(answer.name) } : ref(answer.name) } }
  return {
    operationId: id,
    summary,
    description: `Needs the role ${role}.`,
    'x-role': role,
    ...(all.length === 0 ? {} : { parameters: all }),
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: schemaOf(body, 'input') } } } }),
    responses: {
      [String(answer?.status ?? 200)]: { description: summary, content: good },
      '401': { description: 'No token, or one that is wrong, expired or revoked', content: problem.content },
      '403': { description: 'The token has too low a role', content: problem.content },
      '429': { description: 'Too many wrong tokens came from this address', content: problem.content },
      default: problem,
    },
  }
}

const ref = (name: string): Json => ({ $ref: `#/components/schemas/${name}` })

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { target: 'draft-2020-12', io, unrepresentable: 'any' })
  return rest
}
