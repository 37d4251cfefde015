import { AgentError, throwIfAborted } from '../core/index.ts'

/** Node's and OpenSSL's words for a chain that leads to no trusted CA, or a name that does not fit. */
const UNTRUSTED = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_UNTRUSTED',
  'ERR_TLS_CERT_ALTNAME_INVALID',
])

/** Errors of a connection that was never made: whatever was to be sent has not been. */
const NEVER_CONNECTED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '')

/** Any error of a connection as an AgentError: AUTH for certificates, CANCELED for an aborted signal, else UNAVAILABLE. */
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
  if (UNTRUSTED.has(code)) {
    return new AgentError('AUTH', `The certificate of ${host} is not trusted (${code}).`, {
      subject: host,
      cause: error,
      next: 'Pin its thumbprint ("vcb doctor" shows it) or name the CA file that signed it.',
    })
  }
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
