import { AgentError, throwIfAborted } from '../core/index.ts'

/** Errors of a connection that was never made: whatever was to be sent has not been. */
const NEVER_CONNECTED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '')

/** Any error of a connection as an AgentError: an AgentError inside as it is, CANCELED for an aborted signal, else UNAVAILABLE. */
export function connectionError(error: unknown, host: string, signal?: AbortSignal): AgentError {
  if (signal?.aborted === true) {
    try {
      throwIfAborted({ signal })
    } catch (reason) {
      if (reason instanceof AgentError) return reason
    }
  }
  for (let current = error, depth = 0; current instanceof Error && depth < 10; current = current.cause, depth++) {
    if (current instanceof AgentError) return current
  }
  const cause = error instanceof AggregateError && error.errors.length > 0 ? (error.errors[0] as unknown) : error
  const code = codeOf(cause) === '' ? codeOf(error) : codeOf(cause)
  const message = error instanceof Error ? error.message : String(error)
  return new AgentError('UNAVAILABLE', `The connection to ${host} failed (${code === '' ? message : code}).`, {
    subject: host,
    cause: error,
  })
}

/** True when the request cannot have reached the server, so that even a changing call may be sent again. */
export function neverConnected(error: unknown): boolean {
  for (let current = error, depth = 0; current instanceof Error && depth < 10; current = current.cause, depth++) {
    if (NEVER_CONNECTED.has(codeOf(current))) return true
    if (current instanceof AggregateError && current.errors.some((one) => NEVER_CONNECTED.has(codeOf(one)))) return true
  }
  return false
}
