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

/** Translates an error of node:sqlite about the file at `path`; undefined when it is not one. */
export function fromSqlite(error: unknown, path: string): AgentError | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined
  const init = { subject: path, cause: error }
  switch (error.errcode & 0xff) {
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

export const damagedState = (path: string, cause: unknown): AgentError =>
  new AgentError('INTEGRITY', `The state database ${path} is damaged or is not a state database of vcb.`, {
    subject: path,
    cause,
    next: 'Move the file and its -wal and -shm companions away and run "vcb recover"; snapshots are then found by their claim marks.',
  })
