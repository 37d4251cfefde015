/**
 * The one error class of the product, and the table that gives each code its exit status and default next step.
 *
 * Foreign errors (SOAP faults, errno, TLS, SQLite) are translated once, in the folder that meets them.
 * `docs/errors.md` lists every code; a test compares it with this table in both directions.
 */

/** Documented codes. `exit` is the status of the `vcb` command when an error of this code ends it. */
export const ERROR_CODES = {
  INTERNAL: { exit: 1, next: 'Report this with the log of the run; it is a defect of vcb.' },
  USAGE: { exit: 2, next: 'Run the command with --help to see what it accepts.' },
  CONFIG: { exit: 3, next: 'Correct the configuration and run the command again.' },
  AUTH: { exit: 4, next: 'Check user, password and the pinned certificate, then run the command again.' },
  NOT_FOUND: { exit: 5, next: 'List what exists and name one of those.' },
  CONFLICT: { exit: 6, next: 'Wait for the other job to end, or release what it left with "vcb recover".' },
  UNAVAILABLE: { exit: 7, next: 'Check the network and the host, then run the command again.' },
  GUEST: { exit: 8, next: 'Repair VMware Tools in the guest, or allow a crash-consistent backup with --quiesce try.' },
  INTEGRITY: { exit: 9, next: 'Do not trust this data; run "vcb check" and take a new full backup.' },
  CAPACITY: { exit: 10, next: 'Free space on the named datastore or repository and run the command again.' },
  CANCELED: { exit: 11, next: 'Run the command again; nothing of the canceled run is kept.' },
  PARTIAL: { exit: 12, next: 'See the result of each VM; run the command again for those that failed.' },
} as const

export type ErrorCode = keyof typeof ERROR_CODES

/** Whether trying the same thing again can help: never, at once (a broken connection), or after a while (a lock, a full disk). */
export type Retry = 'never' | 'now' | 'later'

export type AgentErrorInit = {
  /** What it happened to: a VM name, a path, a disk label. Shown when the message does not name it. */
  readonly subject?: string | undefined
  /** One sentence telling the user what to do next; the code's default otherwise. */
  readonly next?: string | undefined
  readonly retry?: Retry | undefined
  readonly cause?: unknown
}

export class AgentError extends Error {
  readonly code: ErrorCode
  readonly subject: string | undefined
  readonly next: string
  readonly retry: Retry

  constructor(code: ErrorCode, message: string, init: AgentErrorInit = {}) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause })
    this.name = 'AgentError'
    this.code = code
    this.subject = init.subject
    this.next = init.next ?? ERROR_CODES[code].next
    this.retry = init.retry ?? (code === 'UNAVAILABLE' ? 'now' : code === 'CONFLICT' || code === 'CAPACITY' ? 'later' : 'never')
  }

  get exit(): number {
    return ERROR_CODES[this.code].exit
  }
}

/** True for an AgentError of one of `codes` (any code when none is given). */
export function isAgentError(error: unknown, ...codes: readonly ErrorCode[]): error is AgentError {
  return error instanceof AgentError && (codes.length === 0 || codes.includes(error.code))
}

/**
 * The error to show for anything thrown: AgentErrors as they are, aborts as CANCELED, a `SuppressedError` by its original
 * body error (`.suppressed`, the first thing that went wrong), the rest as INTERNAL.
 */
export function toAgentError(error: unknown): AgentError {
  if (error instanceof AgentError) return error
  if (error instanceof SuppressedError) return toAgentError(error.suppressed ?? error.error)
  if (error instanceof AggregateError && error.errors.length === 1) return toAgentError(error.errors[0])
  if (error instanceof Error && error.name === 'AbortError') {
    return isAgentError(error.cause) ? error.cause : new AgentError('CANCELED', 'The work was canceled.', { cause: error })
  }
  const system = fromErrno(error)
  if (system !== undefined) return system
  return new AgentError('INTERNAL', error instanceof Error ? error.message : String(error), { cause: error })
}

/** Translates a Node errno error on a local path; undefined when `error` is not one. */
export function fromErrno(error: unknown, subject?: string): AgentError | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined
  const path = subject ?? ('path' in error && typeof error.path === 'string' ? error.path : 'a file')
  switch (error.code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new AgentError('CAPACITY', `No space is left to write ${path}.`, { subject: path, cause: error })
    case 'ENOENT':
      return new AgentError('NOT_FOUND', `${path} does not exist.`, { subject: path, cause: error })
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new AgentError('CONFIG', `Access to ${path} was refused (${error.code}).`, {
        subject: path,
        cause: error,
        next: 'Give the user that runs vcb access to this path.',
      })
    case 'EEXIST':
      return new AgentError('CONFLICT', `${path} exists already.`, {
        subject: path,
        cause: error,
        next: 'Choose another path or remove it.',
        retry: 'never',
      })
    case 'EIO':
    case 'ESTALE':
    case 'ENXIO':
    case 'ENOTCONN':
    case 'EHOSTDOWN':
      return new AgentError('UNAVAILABLE', `Reading or writing ${path} failed with an input/output error.`, { subject: path, cause: error })
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ETIMEDOUT':
    case 'ENOTFOUND':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EAI_AGAIN':
      return new AgentError('UNAVAILABLE', `The connection to ${subject ?? 'the server'} failed (${error.code}).`, {
        subject,
        cause: error,
      })
    default:
      return undefined
  }
}
