import { AgentError, isAgentError } from '../core/index.ts'
import { sshError } from './ssh-error.ts'

/** Status codes of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 7). */
const END_OF_FILE = 1
const NO_SUCH_FILE = 2
const PERMISSION_DENIED = 3
const FAILURE = 4
const BAD_MESSAGE = 5
const OP_UNSUPPORTED = 8

/** An answer of a server over SFTP, said once; `path` is what was asked for. What is no status is an error of the connection. */
export function sftpError(host: string, path: string, error: unknown): AgentError {
  if (error instanceof AgentError) return error
  const status: unknown = error instanceof Error && 'code' in error ? error.code : undefined
  const said = error instanceof Error ? error.message : String(error)
  const init = { subject: path, cause: error }
  switch (status) {
    case END_OF_FILE:
      return new AgentError('INTEGRITY', `${path} on ${host} ended where it should not.`, init)
    case NO_SUCH_FILE:
      return new AgentError('NOT_FOUND', `${path} does not exist on ${host}.`, init)
    case PERMISSION_DENIED:
      return new AgentError('CONFIG', `${host} refused access to ${path}.`, {
        ...init,
        next: 'Give the user that logs in there access to this path.',
      })
    case FAILURE:
      return new AgentError('UNAVAILABLE', `${host} failed at ${path}: ${said}.`, { ...init, retry: 'later' })
    case BAD_MESSAGE:
    case OP_UNSUPPORTED:
      return new AgentError('CONFIG', `${host} does not do what is needed at ${path}: ${said}.`, {
        ...init,
        next: 'Use another SFTP server; OpenSSH’s has all of it.',
      })
    default:
      return serverError(host, error)
  }
}

/** `sshError` for a server that keeps files: what is to be done there is not what is to be done on an ESXi host. */
export function serverError(host: string, error: unknown): AgentError {
  const shown = sshError(host, error)
  const { code, message, subject, cause, retry } = shown
  // What the check of the host key says (it has no cause) is about this server already.
  if (code !== 'UNAVAILABLE' && (code !== 'AUTH' || cause === undefined)) return shown
  const next =
    code === 'AUTH'
      ? 'Check the user, and the key or password, that the repository is reached with.'
      : 'Check that the server runs and that its SSH port can be reached from here, then run the command again.'
  return new AgentError(code, message, { subject, cause, retry, next })
}

/** True for the answer after the last name of a directory. */
export const isEnd = (error: unknown): boolean => error instanceof AgentError && statusOf(error) === END_OF_FILE

/** True when the server said that there is no such file. */
export const isNoSuchFile = (error: unknown): boolean => isAgentError(error, 'NOT_FOUND') && statusOf(error) === NO_SUCH_FILE

/** True for the failure that stands for everything version 3 has no code for: exists already, not empty, no space. */
export const isPlainFailure = (error: unknown): error is AgentError => isAgentError(error, 'UNAVAILABLE') && statusOf(error) === FAILURE

/** The status an error was made from, undefined when the server sent none. */
const statusOf = ({ cause }: AgentError): unknown => (cause instanceof Error && 'code' in cause ? cause.code : undefined)
