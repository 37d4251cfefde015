import { readFile } from 'node:fs/promises'
import { type MountedFileSystem, parseMountInfo } from '../../transport/index.ts'

/** What is mounted now, as this process sees it, in the order of mounting. Reads nothing that is mounted. */
export const mountTable = async (): Promise<readonly MountedFileSystem[]> => parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'))

/** The word by which the mount table and the command lines of programs tell whose a mount is. */
export const markOf = (claim: string): string => `vcb-${claim}`

/** Whether `source` is mounted on `path`, in a table that was read before. */
export const isMountedIn = (table: readonly MountedFileSystem[], path: string, source: string): boolean =>
  table.some((mount) => mount.mountPoint === path && mount.source === source)

/** What is mounted on `path` from `source`; undefined when it is not there (any more). */
export async function mountedFrom(path: string, source: string): Promise<MountedFileSystem | undefined> {
  return (await mountTable()).findLast((mount) => mount.mountPoint === path && mount.source === source)
}
