import { type Abortable, AgentError, KIB, MIB, throwIfAborted } from '../core/index.ts'
import type { SshConnection } from './connection.ts'
import { hostFileError, isMissingProgram } from './host-error.ts'
import type { RemoteFile, RemoteFiles } from './remote-files.ts'

/** One dd reads so much at most: long enough to make its start cheap, short enough for several beside each other. Bytes */
const PIECE = 4 * MIB

/**
 * Files through the host's `dd` and `stat`, for hosts without python3: one command a read, so that its output's end and its exit status prove that
 * nothing is missing. `reason` says why it is not python3.
 */
export function ddFiles(connection: SshConnection, reason: string): RemoteFiles {
  const { name } = connection.host
  return {
    how: { program: 'dd', reason },
    open: async (path, options): Promise<RemoteFile> => {
      const { status, stdout, stderr } = await connection.run(['stat', '-L', '-c', '%s', path], options)
      if (isMissingProgram(status)) throw new AgentError('UNAVAILABLE', `${name} has no stat.`, { subject: name, retry: 'never' })
      if (status !== 0) throw hostFileError(name, path, 0, stderr)
      if (!/^\d{1,16}\n$/.test(stdout))
        throw new AgentError('UNAVAILABLE', `${name} gave no size for ${path}.`, { subject: path, retry: 'never' })
      const size = Number(stdout)
      return {
        path,
        size,
        read: async (offset, into, readOptions) => {
          if (offset < 0 || offset + into.length > size) {
            throw new AgentError('INTEGRITY', `${path} has ${size} bytes; the ${into.length} at ${offset} lie outside.`, { subject: path })
          }
          const pieces: Promise<void>[] = []
          for (let at = 0; at < into.length; at += PIECE) {
            pieces.push(readPiece(connection, { path, size }, offset + at, into.subarray(at, at + PIECE), readOptions))
          }
          // All have ended before the caller has its buffer back, also when one failed.
          for (const result of await Promise.allSettled(pieces)) if (result.status === 'rejected') throw result.reason
        },
      }
    },
    [Symbol.asyncDispose]: async () => undefined,
  }
}

/**
 * Whole blocks around what is wanted, the rest dropped: busybox's dd counts offsets in blocks only, and blocks of a sector would take 2048 system
 * calls a MiB.
 */
async function readPiece(
  connection: SshConnection,
  file: { readonly path: string; readonly size: number },
  offset: number,
  into: Uint8Array,
  options?: Abortable,
): Promise<void> {
  if (into.length === 0) return
  const block = into.length >= 256 * KIB ? 64 * KIB : 4 * KIB
  const skip = Math.floor(offset / block)
  const count = Math.ceil((offset + into.length) / block) - skip
  const start = skip * block
  const wanted = Math.min((skip + count) * block, file.size) - start
  await using channel = await connection.start(['dd', `if=${file.path}`, `bs=${block}`, `skip=${skip}`, `count=${count}`], options)
  let at = 0
  let given = false
  const stop = (): void => {
    given = true
  }
  options?.signal?.addEventListener('abort', stop, { once: true })
  channel.onData((piece) => {
    const from = Math.max(0, offset - start - at)
    const to = Math.min(piece.length, offset - start + into.length - at)
    if (!given && to > from) into.set(piece.subarray(from, to), at + from - (offset - start))
    at += piece.length
  })
  channel.end()
  try {
    const ended = await Promise.race([channel.ended(), aborted(options)])
    const { name } = connection.host
    if (ended.status === undefined) {
      if (connection.lost.aborted) throw connection.lost.reason
      throw new AgentError('UNAVAILABLE', `dd was ended on ${name} while it read ${file.path}.`, { subject: file.path })
    }
    if (ended.status !== 0) throw hostFileError(name, file.path, 0, ended.stderr)
    if (at !== wanted) {
      throw new AgentError('UNAVAILABLE', `dd on ${name} gave ${at} bytes of ${file.path} at ${start}, ${wanted} were asked for.`, {
        subject: file.path,
      })
    }
  } finally {
    given = true
    options?.signal?.removeEventListener('abort', stop)
  }
}

/** Rejects when the signal aborts; else never settles, and is dropped with the race. */
function aborted(options?: Abortable): Promise<never> {
  return new Promise((_resolve, reject) => {
    options?.signal?.addEventListener(
      'abort',
      () => {
        try {
          throwIfAborted(options)
        } catch (error) {
          reject(error)
        }
      },
      { once: true },
    )
  })
}
