import { createServer, type Server } from 'node:net'
import { AgentError, ByteChannel, type Clock, effect, fromErrno, type Log, setPermissions } from '../core/index.ts'
import { type ExportActivity, type NbdExport, ServedExport } from './served-export.ts'
import { ServerConnection } from './server-connection.ts'

/** Longest path of a Unix socket, bytes (`sun_path` of unix(7) less its NUL). */
export const LONGEST_SOCKET_PATH = 107
const MOST_CONNECTIONS = 64
/** Requests waiting to be read; each has 28 bytes. */
const HIGH_WATER = 64 * 1024
/** How long closing waits for what is under way, ms. */
const CLOSE_MS = 2000

export type NbdServerOptions = {
  /** Where the socket is made: in a directory that only its user can enter. Must not exist. */
  readonly path: string
  /** Names are unique. A client that names none gets the only one. */
  readonly exports: readonly NbdExport[]
  readonly clock: Clock
  readonly log: Log
}

/** Disks offered on a socket, read-only, to several clients at once. Disposal refuses new requests, ends what is under way, removes the socket. */
export interface NbdServer extends AsyncDisposable {
  readonly path: string
  /** How each export was used until now, in their order. Asked as often as one likes. */
  readonly activity: readonly ExportActivity[]
}

/** Listens when it resolves. Errors: CONFIG (path too long, no access), CONFLICT (the path exists), USAGE (a name twice). */
export async function serveNbd(options: NbdServerOptions): Promise<NbdServer> {
  const { path, clock, log } = options
  if (Buffer.byteLength(path) > LONGEST_SOCKET_PATH) {
    throw new AgentError('CONFIG', `The path ${path} is too long for a socket, which may have ${LONGEST_SOCKET_PATH} bytes.`, {
      subject: path,
      next: 'Choose a directory with a shorter path.',
    })
  }
  if (new Set(options.exports.map(({ name }) => name)).size < options.exports.length) {
    throw new AgentError('USAGE', 'Two exports have one name.', { subject: path })
  }
  const exports = options.exports.map((each) => new ServedExport(each, clock))
  const open = new Set<{ readonly connection: ServerConnection; readonly ended: Promise<void> }>()
  const server = createServer((socket) => {
    const connection = new ServerConnection(new ByteChannel(socket, { peer: 'an NBD client', protocol: 'NBD', highWater: HIGH_WATER }), {
      clock,
      log,
    })
    const entry = { connection, ended: connection.run(exports).finally(() => open.delete(entry)) }
    open.add(entry)
  })
  server.maxConnections = MOST_CONNECTIONS
  await effect({ kind: 'file', what: 'make socket', on: path }, () => listen(server, path))
  server.on('error', (error) => log.warn('the NBD server met an error', { path, error: error.message }))
  server.on('drop', () => log.warn('an NBD client was refused: too many connections', { path, connections: MOST_CONNECTIONS }))
  await setPermissions(path, 0o600)
  return {
    path,
    get activity() {
      return exports.map((each) => each.activity)
    },
    [Symbol.asyncDispose]: async () => {
      const closed = effect({ kind: 'file', what: 'remove socket', on: path }, () => close(server))
      const stop = new AbortController()
      const late = clock.sleep(CLOSE_MS, { signal: stop.signal }).catch(() => undefined) // all were answered in time
      await Promise.all([...open].map(({ connection }) => connection.shutDown(late)))
      stop.abort()
      await Promise.all([...open].map(({ ended }) => ended))
      await closed
    },
  }
}

async function listen(server: Server, path: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, () => {
        server.off('error', reject)
        resolve()
      })
    })
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
      throw new AgentError('CONFLICT', `${path} exists already.`, { subject: path, retry: 'never', cause: error })
    }
    throw fromErrno(error, path) ?? error
  }
}

/** Stops listening, which removes the socket; resolves when the last connection has ended. */
const close = (server: Server): Promise<void> =>
  new Promise((resolve, reject) => server.close((error) => (error === undefined ? resolve() : reject(error))))
