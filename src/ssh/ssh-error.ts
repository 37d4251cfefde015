import { AgentError, fromErrno, toAgentError } from '../core/index.ts'

const ENABLE = 'Check that SSH is enabled on the host (service TSM-SSH), and that this proxy may reach its port.'

/** An error of the SSH library or of the socket below it, said once. */
export function sshError(host: string, error: unknown): AgentError {
  if (error instanceof AgentError) return error
  const level: unknown = error instanceof Error && 'level' in error ? error.level : undefined
  const message = error instanceof Error ? error.message : String(error)
  if (level === 'client-authentication') {
    return new AgentError('AUTH', `${host} refused the SSH login.`, {
      subject: host,
      cause: error,
      next: 'Check user and key or password; ESXi refuses logins for a while after several wrong ones.',
    })
  }
  if (level === 'client-timeout') {
    return new AgentError('UNAVAILABLE', `${host} does not answer over SSH any more.`, { subject: host, cause: error, next: ENABLE })
  }
  if (level === 'handshake' || level === 'protocol') {
    return new AgentError('UNAVAILABLE', `${host} and vcb could not agree on an SSH connection: ${message}.`, {
      subject: host,
      cause: error,
      retry: 'never',
      next: 'Look at the log of the host’s SSH service.',
    })
  }
  const system = fromErrno(error, `the SSH service of ${host}`)
  if (system !== undefined) return new AgentError(system.code, system.message, { subject: host, cause: error, next: ENABLE })
  if (error instanceof Error && 'reason' in error) {
    return new AgentError('UNAVAILABLE', `${host} opened no further SSH session: ${message}.`, {
      subject: host,
      cause: error,
      retry: 'later',
    })
  }
  if (error instanceof Error && error.name === 'AbortError') return toAgentError(error)
  return new AgentError('UNAVAILABLE', `The SSH connection to ${host} failed: ${message}.`, { subject: host, cause: error })
}

/** The connection ended under the work. */
export const connectionLost = (host: string): AgentError =>
  new AgentError('UNAVAILABLE', `The SSH connection to ${host} was lost.`, { subject: host })
