import fc from 'fast-check'

/** As much of JSON Schema as our document uses. */
type Schema = {
  readonly type?: string
  readonly enum?: readonly string[]
  readonly const?: unknown
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly minimum?: number
  readonly maximum?: number
  readonly format?: string
  readonly maxLength?: number
}

export type Operation = {
  readonly operationId: string
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required: boolean; readonly schema: Schema }[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
}

export type Document = { readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> }

/** A request as it goes onto the wire. */
export type Sent = {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
}

const word = fc.stringMatching(/^[a-z0-9*.-]{1,20}$/)

/** Values that a schema takes. */
function valid(schema: Schema): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  switch (schema.type) {
    case 'boolean':
      return fc.boolean()
    case 'integer':
    case 'number':
      return fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 1000, 1_000_000) })
    case 'array':
      return fc.array(valid(schema.items ?? {}), { minLength: schema.minItems ?? 0, maxLength: Math.min(schema.maxItems ?? 3, 3) })
    case 'object': {
      const properties = Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, each]) => [name, valid(each)]))
      return fc.record(properties, { requiredKeys: [...(schema.required ?? [])] })
    }
    default:
      return schema.format === 'date-time'
        ? fc.date({ min: new Date('2026-01-01'), max: new Date('2027-01-01'), noInvalidDate: true }).map((date) => date.toISOString())
        : fc.oneof({ arbitrary: word, weight: 2 }, { arbitrary: fc.constantFrom('nightly', 'web01'), weight: 1 })
  }
}

/** What no route takes there, or only just. */
const odd: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    '',
    ' ',
    -1,
    0,
    1e308,
    '\u0000',
    '../../etc/passwd',
    "' OR 1=1 --",
    '\u202e',
    'x'.repeat(513),
    [],
    {},
    [[]],
    'NaN',
    '2026-13-45T00:00:00Z',
  ),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.jsonValue({ maxDepth: 3 }),
)

const nearly = (schema: Schema): fc.Arbitrary<unknown> =>
  fc
    .tuple(valid(schema), fc.constantFrom(...Object.keys(schema.properties ?? {}), 'extra', '__proto__', 'constructor'), odd, fc.boolean())
    .map(([value, key, strange, drop]) => {
      const entries = Object.entries(value as object).filter(([name]) => name !== key)
      return Object.fromEntries(drop ? entries : [...entries, [key, strange]])
    })

const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

/** Requests of one operation: as the document says, nearly so, and not at all. */
export function requestsOf(
  path: string,
  method: string,
  operation: Operation,
): { readonly valid: fc.Arbitrary<Sent>; readonly wrong: fc.Arbitrary<Sent> } {
  const parameters = (operation.parameters ?? []).filter((each) => each.in === 'query')
  const querySchema: Schema = {
    type: 'object',
    properties: Object.fromEntries(parameters.map(({ name, schema }) => [name, schema])),
    required: parameters.filter(({ required }) => required).map(({ name }) => name),
  }
  const bodySchema = operation.requestBody?.content['application/json']?.schema
  const json = { 'content-type': 'application/json' }
  const sent = (query: object, body: string | undefined, headers: Readonly<Record<string, string>> = json): Sent => {
    const search = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, text(value).toWellFormed()])).toString()
    return {
      method: method.toUpperCase(),
      path: search === '' ? path : `${path}?${search}`,
      headers: body === undefined ? {} : headers,
      body,
    }
  }
  const asBody = (value: unknown): string | undefined => (bodySchema === undefined ? undefined : JSON.stringify(value))
  const wrongBody = fc.oneof(
    ...(bodySchema === undefined ? [] : [nearly(bodySchema).map((value) => JSON.stringify(value))]),
    fc.json({ maxDepth: 4 }),
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.constantFrom(
      '{',
      '{"a":',
      '[[[[',
      '"',
      'null',
      '\u0000',
      '['.repeat(20_000),
      `{"job":"${'x'.repeat(66_000)}"}`,
      '{"job":"a","job":"b"}',
      '{"__proto__":{"job":"x"}}',
    ),
  )
  const types = fc.oneof(
    { arbitrary: fc.constant('application/json'), weight: 2 },
    {
      arbitrary: fc.constantFrom(
        'application/json',
        'application/json; charset=latin1',
        'text/plain',
        'application/xml',
        'multipart/form-data; boundary=x',
        '',
        'application/json, x',
        'x/y;z=',
      ),
      weight: 1,
    },
  )
  return {
    valid: fc
      .tuple(valid(querySchema), bodySchema === undefined ? fc.constant(undefined) : valid(bodySchema))
      .map(([query, body]) => sent(query as object, asBody(body))),
    wrong: fc.oneof(
      fc
        .tuple(nearly(querySchema), bodySchema === undefined ? fc.constant(undefined) : valid(bodySchema))
        .map(([query, body]) => sent(query as object, asBody(body))),
      method === 'post'
        ? fc.tuple(wrongBody, types).map(([body, type]) => sent({}, body, { 'content-type': type }))
        : nearly(querySchema).map((query) => sent(query as object, undefined)),
      fc
        .tuple(
          fc.constantFrom('%', '%zz', '/', '?', '#', '//', '/..', ';x', '%00', '%2e%2e/', '?a[b]=c&a=1', `?${'a=1&'.repeat(900)}`),
          fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD'),
        )
        .map(([tail, verb]): Sent => ({ method: verb, path: `${path}${tail}`, headers: {}, body: undefined })),
    ),
  }
}
