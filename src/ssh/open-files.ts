import { type Abortable, isAgentError } from '../core/index.ts'
import type { SshConnection } from './connection.ts'
import { ddFiles } from './dd-files.ts'
import { ProgramLane } from './program-lane.ts'
import { pythonFiles } from './python-files.ts'
import type { RemoteFiles } from './remote-files.ts'

/** The files of a host, by the best program it has. UNAVAILABLE, CANCELED. The caller disposes them before the connection. */
export async function openRemoteFiles(connection: SshConnection, options?: Abortable): Promise<RemoteFiles> {
  try {
    return pythonFiles(connection, await ProgramLane.start(connection, options))
  } catch (error) {
    if (!isAgentError(error, 'NOT_FOUND')) throw error
    connection.deps.log.info('reading with dd', { host: connection.host.name, reason: error.message })
    return ddFiles(connection, error.message)
  }
}
