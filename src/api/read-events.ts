import { agentEvent, type AgentEvent } from './event-view.ts'
import { AgentError } from '../core/index.ts'

/** One event of the stream. `missed`: something before it is not known. */
export type ReadEvent = { readonly id: string | undefined; readonly event: AgentEvent | { readonly type: 'missed' } }

/** Longest line that is read, characters. */
const LONGEST_LINE = 1024 * 1024

/** Server-sent events (html.spec.whatwg.org, "Event stream interpretation") as our agent writes them. Events of a kind not known here are left out. */
export async function* readEventStream(body: AsyncIterable<Uint8Array>): AsyncIterable<ReadEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  let fields = new Map<string, string>()
  for await (const part of body) {
    rest += decoder.decode(part, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LONGEST_LINE) throw new AgentError('UNAVAILABLE', 'The agent sent an event that is too large.')
    for (const line of lines) {
      if (line !== '') {
        const colon = line.indexOf(':')
        if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).replace(/^ /, ''))
        continue
      }
      const read = eventOf(fields)
      fields = new Map()
      if (read !== undefined) yield read
    }
  }
}

function eventOf(fields: ReadonlyMap<string, string>): ReadEvent | undefined {
  const data = fields.get('data')
  if (data === undefined) return undefined
  if (fields.get('event') === 'missed') return { id: undefined, event: { type: 'missed' } }
  let value: unknown
  try {
    value = JSON.parse(data)
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
  const { data: event } = agentEvent.safeParse(value)
  return event === undefined ? undefined : { id: fields.get('id'), event: event as AgentEvent }
}
