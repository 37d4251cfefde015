import { AgentError } from '../../core/index.ts'

/** Any error of an HTTP connection: an AgentError inside as it is, CONFIG for a server without TLS, else UNAVAILABLE. */
export function connectionError(error: unknown, host: string): AgentError {
  for (let current = error, depth = 0; current instanceof Error && depth < 10; current = current.cause, depth++) {
    if (current instanceof AgentError) return current
  }
  const cause: unknown = error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
    return new AgentError('CONFIG', `${host} does not speak TLS.`, {
      subject: host,
      cause: error,
      next: 'Check the port; write rest:http://… only where nothing is between here and there.',
    })
  }
  const said = code !== '' ? code : error instanceof Error ? error.message : String(error)
  return new AgentError('UNAVAILABLE', `The connection to ${host} failed (${said}).`, { subject: host, cause: error })
}
