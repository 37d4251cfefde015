import { readFile } from 'node:fs/promises'
import type { DatastoreRef } from '../core/index.ts'

/** A mounted file system as /proc/self/mountinfo lists it (proc(5)): octal escapes decoded. */
export type MountedFileSystem = { readonly mountPoint: string; readonly type: string; readonly source: string }

/** Parses /proc/self/mountinfo. Lines that are not of its form are skipped: the kernel may add kinds. */
export function parseMountInfo(text: string): MountedFileSystem[] {
  const mounts: MountedFileSystem[] = []
  for (const line of text.split('\n')) {
    const fields = line.split(' ')
    const dash = fields.indexOf('-', 6)
    const [mountPoint, type, source] = [fields[4], fields[dash + 1], fields[dash + 2]]
    if (dash === -1 || mountPoint === undefined || type === undefined || source === undefined) continue
    mounts.push({ mountPoint: unescape(mountPoint), type, source: unescape(source) })
  }
  return mounts
}

const unescape = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/**
 * The directory where an NFS datastore's export is mounted on this machine, matched by server and exported path, never by the datastore's
 * name. Undefined when it is not mounted. What is found is still verified disk by disk.
 */
export function findNfsMount(datastore: DatastoreRef, mounts: readonly MountedFileSystem[]): string | undefined {
  const nas = datastore.nas
  if (nas === undefined) return undefined
  const path = trimSlash(nas.remotePath)
  return mounts.find((mount) => {
    if (mount.type !== 'nfs' && mount.type !== 'nfs4') return false
    const colon = mount.source.startsWith('[') ? mount.source.indexOf(']:') + 1 : mount.source.indexOf(':')
    const host = mount.source.slice(0, colon).replace(/^\[|\]$/g, '')
    return host.toLowerCase() === nas.remoteHost.toLowerCase() && trimSlash(mount.source.slice(colon + 1)) === path
  })?.mountPoint
}

const trimSlash = (path: string): string => (path.length > 1 ? path.replace(/\/+$/, '') : path)

/** Datastore name → local directory: the configured map first, then NFS exports found mounted here. Read once a run. */
export async function mapDatastores(
  datastores: readonly DatastoreRef[],
  configured: Readonly<Record<string, string>>,
  mountInfoPath = '/proc/self/mountinfo',
): Promise<ReadonlyMap<string, string>> {
  const map = new Map<string, string>()
  const unmapped = datastores.filter((datastore) => {
    const directory = configured[datastore.name]
    if (directory !== undefined) map.set(datastore.name, directory)
    return directory === undefined && datastore.nas !== undefined
  })
  if (unmapped.length === 0) return map
  const mounts = parseMountInfo(await readFile(mountInfoPath, 'utf8'))
  for (const datastore of unmapped) {
    const directory = findNfsMount(datastore, mounts)
    if (directory !== undefined) map.set(datastore.name, directory)
  }
  return map
}
