import { AgentError } from '../core/index.ts'

// Primary result codes of SQLite (sqlite.org/rescode.html); an extended code carries the primary one in its low byte.
const BUSY = 5
const LOCKED = 6
const READONLY = 8
const IOERR = 10
const CORRUPT = 11
const FULL = 13
const CANTOPEN = 14
const NOTADB = 26
/** Extended: the index of the write-ahead log could not be made large enough. */
const IOERR_SHMSIZE = 4874

/** Translates an error of node:sqlite about the file at `path`; undefined when it is not one. */
export function fromSqlite(error: unknown, path: string): AgentError | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined
  const init = { subject: path, cause: error }
  switch (error.errcode === IOERR_SHMSIZE ? FULL : error.errcode & 0xff) {
    case BUSY:
    case LOCKED:
      return new AgentError('CONFLICT', `The state database ${path} is held by another process.`, {
        ...init,
        next: 'Wait until the other vcb process has finished and run the command again.',
      })
    case FULL:
      return new AgentError('CAPACITY', `No space is left to write the state database ${path}.`, init)
    case CORRUPT:
    case NOTADB:
      return damagedState(path, error)
    case READONLY:
    case CANTOPEN:
      return new AgentError('CONFIG', `The state database ${path} cannot be opened for writing: ${error.message}.`, {
        ...init,
        next: 'Give the user that runs vcb write access to the state directory.',
      })
    case IOERR:
      return new AgentError('UNAVAILABLE', `Reading or writing the state database ${path} failed: ${error.message}.`, init)
    default:
      return undefined
  }
}

export const DAMAGED_NEXT =
  'Run "vcb recover --journal-lost": it sets the file aside and finds in vSphere, by our marks, what the journal knew.'

export const damagedState = (path: string, cause: unknown): AgentError =>
  new AgentError('INTEGRITY', `The state database ${path} is damaged or is not a state database of vcb.`, {
    subject: path,
    cause,
    next: DAMAGED_NEXT,
  })

/** This installation has had a database, and there is none or an empty one. */
export const lostState = (path: string): AgentError =>
  new AgentError('INTEGRITY', `The state database ${path} is missing or empty, although this installation has had one.`, {
    subject: path,
    next: DAMAGED_NEXT,
  })

export const lostLog = (path: string): AgentError =>
  new AgentError('INTEGRITY', `The write-ahead log of the state database ${path} is missing, and the last changes with it.`, {
    subject: path,
    next: DAMAGED_NEXT,
  })
