import { realpath } from 'node:fs/promises'
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path'
import { type Abortable, AgentError, fromErrno } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'
import { type LocalFileOptions, openLocalFile } from './local-file.ts'

/**
 * Turns what descriptors say about other files into open files. One object serves one disk chain; `localDiskFiles` reads directories,
 * transports bring their own for datastore HTTP.
 */
export interface DiskFiles {
  /**
   * The location meant by `reference` as written in the descriptor at location `from` (undefined: as given by the user). Locations are
   * compared to find cycles, so one file has one location. Errors: CONFIG when the reference leaves the directory and is not mapped.
   */
  resolve(reference: string, from: string | undefined): Promise<string>
  /** Opens the file at a location `resolve` gave. The caller disposes it. Errors: NOT_FOUND, CONFIG, UNAVAILABLE. */
  open(location: string, options?: Abortable): Promise<ByteSource>
}

export type LocalDiskFilesOptions = LocalFileOptions & {
  /** Nothing outside these directories is opened, also through symbolic links. Default: the directory of the descriptor that refers. */
  readonly roots?: readonly string[] | undefined
  /**
   * Where a reference that leaves its directory is found (`/vmfs/volumes/UUID/vm/x.vmdk`, `[datastore] vm/x.vmdk`, `../base/x.vmdk`):
   * a local path, or undefined to refuse it. Called for each such reference, and for the first one.
   */
  readonly map?: ((reference: string, from: string | undefined) => Promise<string | undefined>) | undefined
}

/** Files of mounted datastores or export directories. Holds nothing open itself. */
export function localDiskFiles(options: LocalDiskFilesOptions = {}): DiskFiles {
  const { map, devices } = options
  const roots = options.roots === undefined ? undefined : options.roots.map((root) => resolve(root))
  return Object.freeze({
    async resolve(reference: string, from: string | undefined): Promise<string> {
      if (reference.includes('\0') || reference === '') throw outside(reference, from)
      const beside = from === undefined ? undefined : insideDirectory(reference, dirname(from))
      const mapped = beside === undefined ? await map?.(reference, from) : undefined
      const path = beside ?? mapped ?? (from === undefined ? resolve(reference) : undefined)
      if (path === undefined) throw outside(reference, from)
      const real = await realPath(path)
      const limits =
        roots === undefined ? [beside !== undefined && from !== undefined ? dirname(from) : dirname(real)] : await realPaths(roots)
      if (!limits.some((limit) => insideDirectory(real, limit) !== undefined)) throw outside(reference, from)
      return real
    },
    open: (location: string) => openLocalFile(location, { devices }),
  })
}

/** The absolute path of `reference` below `directory`; undefined when it is not below it. */
function insideDirectory(reference: string, directory: string): string | undefined {
  if (reference.includes('://') || reference.startsWith('[')) return undefined
  const path = resolve(directory, reference)
  const inner = relative(directory, path)
  return inner === '' || inner === '..' || inner.startsWith(`..${sep}`) || isAbsolute(inner) ? undefined : path
}

const realPaths = (paths: readonly string[]): Promise<string[]> => Promise.all(paths.map(realPath))

async function realPath(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENAMETOOLONG' || code === 'ENOTDIR' || code === 'ELOOP') {
      throw new AgentError('NOT_FOUND', `${path.slice(0, 300)} does not exist.`, { subject: path, cause: error })
    }
    throw fromErrno(error, path) ?? error
  }
}

function outside(reference: string, from: string | undefined): AgentError {
  const shown = JSON.stringify(reference.slice(0, 300))
  const where = from === undefined ? '' : ` in ${from}`
  return new AgentError('CONFIG', `The reference ${shown}${where} leads out of the directories this disk may use.`, {
    subject: from ?? reference,
    next: 'Map the datastore it names to a local path, or copy the file beside the descriptor.',
  })
}
