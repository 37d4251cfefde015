import type { Server } from 'node:http'
import { connect } from 'node:net'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  AgentError,
  effect,
  ensureDirectory,
  fromErrno,
  isThere,
  makeTemporaryDirectory,
  removeDirectory,
  removeFile,
  renameFile,
  setOwner,
  setPermissions,
} from '../core/index.ts'

/** Longest path of a Unix socket, bytes: `sun_path` of unix(7) less what the temporary name needs. */
const LONGEST_PATH = 96

export type SocketOptions = {
  readonly path: string
  /** Members of this group (a name or number) may connect too, and are admins as the agent's own user is. */
  readonly group: string | undefined
}

/**
 * Listens on a Unix socket that only the agent's user, or also a group, can connect to. It is made under another name, gets its permissions, and only then
 * its place, so that it is never open to more; one that a dead agent left is replaced. Dispose of it before the server is closed. Errors: CONFIG, and
 * CONFLICT when another agent listens there.
 */
export async function listenOnSocket(server: Server, { path, group }: SocketOptions): Promise<AsyncDisposable> {
  if (Buffer.byteLength(path) > LONGEST_PATH) {
    throw new AgentError('CONFIG', `The path of the socket, ${path}, is longer than ${LONGEST_PATH} bytes.`, {
      next: 'Set api.socket to a shorter one.',
    })
  }
  const gid = group === undefined ? undefined : await groupId(group)
  const directory = dirname(path)
  await ensureDirectory(directory)
  if ((await isThere(path)) && (await answers(path))) {
    throw new AgentError('CONFLICT', `Another agent listens on ${path}.`, {
      subject: path,
      next: 'End that one, or set api.socket to another path.',
    })
  }
  const holder = await makeTemporaryDirectory(join(directory, '.s'))
  const made = join(holder, 's')
  try {
    await effect({ kind: 'file', what: 'make socket', on: made }, () => listen(server, made))
    await setPermissions(made, gid === undefined ? 0o600 : 0o660)
    if (gid !== undefined) await setOwner(made, process.getuid?.() ?? 0, gid)
    await renameFile(made, path)
  } catch (error) {
    await removeFile(made)
    throw error instanceof AgentError ? error : (fromErrno(error, path) ?? error)
  } finally {
    await removeDirectory(holder)
  }
  return { [Symbol.asyncDispose]: () => removeFile(path) }
}

export function listen(server: Server, where: string | { readonly host: string; readonly port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    const ready = (): void => {
      server.off('error', reject)
      resolve()
    }
    if (typeof where === 'string') server.listen(where, ready)
    else server.listen(where.port, where.host, ready)
  })
}

/** Whether somebody takes connections there. */
const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    const end = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })

/** group(5). CONFIG. */
async function groupId(group: string): Promise<number> {
  if (/^\d+$/.test(group)) return Number(group)
  for (const line of (await readFile('/etc/group', 'utf8')).split('\n')) {
    const [name, , id] = line.split(':')
    if (name === group) return Number(id)
  }
  throw new AgentError('CONFIG', `There is no group ${group} on this machine.`, {
    subject: group,
    next: 'Correct api.group, or make the group.',
  })
}
