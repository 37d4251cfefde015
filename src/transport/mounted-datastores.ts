import { readFile, realpath } from 'node:fs/promises'
import { type Abortable, type DatastoreRef, fromErrno, isMissing } from '../core/index.ts'
import { isReadOnly, mountOf, parseMountInfo } from './mount-info.ts'
import { type HostLookup, nfsMatches } from './nfs-mount.ts'
import { isVmfs, missingExtents, type VmfsMount, vmfsMounts } from './vmfs-mount.ts'

/** Where a datastore is mounted on this machine, and what that is known by. */
export type MountedDatastore = {
  /** Links resolved. */
  readonly directory: string
  /** `configured` is what a user said, and proves nothing. */
  readonly by: 'configured' | 'nfs' | 'vmfs'
  /** The file system's own uuid is the datastore's. */
  readonly identified: boolean
  /** In words, for the reason of a choice. */
  readonly what: string
  readonly readOnly: boolean
  /** Why it must not be used although it is there. */
  readonly refusal?: string | undefined
}

export type MountSearch = Abortable & {
  /** Datastore name, or its uuid where two have one name → directory. */
  readonly configured: Readonly<Record<string, string>>
  readonly mountInfoPath?: string | undefined
  readonly processes?: string | undefined
  readonly lookup?: HostLookup | undefined
}

/**
 * Datastore name → where it is mounted: as configured, else where its NFS export or its VMFS volume is found. Read once per disk, so that a mount made
 * or lost meanwhile is seen. What is found is still proven disk by disk (`prove-mounted.ts`); a configured directory that lies on another VMFS
 * volume is refused here already.
 */
export async function mapDatastores(
  datastores: readonly DatastoreRef[],
  search: MountSearch,
): Promise<ReadonlyMap<string, MountedDatastore>> {
  const mounts = parseMountInfo(await readFile(search.mountInfoPath ?? '/proc/self/mountinfo', 'utf8'))
  const volumes = await vmfsMounts(mounts, { processes: search.processes, signal: search.signal })
  const map = new Map<string, MountedDatastore>()
  for (const datastore of datastores) {
    const found = (await configured(datastore)) ?? (await discovered(datastore))
    if (found !== undefined) map.set(datastore.name, found)
  }
  return map

  async function configured(datastore: DatastoreRef): Promise<MountedDatastore | undefined> {
    const given = search.configured[uuidOf(datastore) ?? ''] ?? search.configured[datastore.name]
    if (given === undefined) return undefined
    const what = `datastore files in ${given}`
    const directory = await realOr(given, (refusal) => `Datastore ${datastore.name} is mapped to ${given}, ${refusal}`)
    if (typeof directory !== 'string') return { directory: given, by: 'configured', identified: false, what, readOnly: false, ...directory }
    const mount = mountOf(directory, mounts)
    const volume = volumes.find(({ mountPoint }) => mountPoint === mount?.mountPoint)
    return {
      directory,
      by: 'configured',
      identified: isVolumeOf(datastore, volume),
      what,
      readOnly: mount !== undefined && isReadOnly(mount),
      refusal: mount !== undefined && isVmfs(mount) && volume !== undefined ? refusalOf(datastore, directory, volume) : undefined,
    }
  }

  async function discovered(datastore: DatastoreRef): Promise<MountedDatastore | undefined> {
    const volume = volumes.find((each) => isVolumeOf(datastore, each))
    if (volume !== undefined) {
      const mount = mountOf(volume.mountPoint, mounts)
      return {
        directory: volume.mountPoint,
        by: 'vmfs',
        identified: true,
        what: `VMFS volume ${volume.uuid} in ${volume.mountPoint}`,
        readOnly: mount !== undefined && isReadOnly(mount),
        refusal: refusalOf(datastore, volume.mountPoint, volume),
      }
    }
    for (const match of await nfsMatches(datastore, mounts, search.lookup)) {
      const directory = await realOr(match.directory, (refusal) => refusal)
      if (typeof directory !== 'string') continue
      const mount = mountOf(match.directory, mounts)
      const what = `NFS export ${match.export} in ${match.directory}`
      return { directory, by: 'nfs', identified: false, what, readOnly: mount !== undefined && isReadOnly(mount) }
    }
    return undefined
  }
}

/** `VmfsDatastoreInfo.vmfs.uuid`, or what the url ends with: `ds:///vmfs/volumes/UUID/`. */
export const uuidOf = (datastore: DatastoreRef): string | undefined =>
  datastore.vmfs?.uuid ?? /\/vmfs\/volumes\/([^/]+)\/?$/.exec(datastore.url)?.[1]

const isVolumeOf = (datastore: DatastoreRef, volume: VmfsMount | undefined): boolean =>
  volume?.uuid !== undefined && datastore.vmfs?.uuid.toLowerCase() === volume.uuid

function refusalOf(datastore: DatastoreRef, directory: string, volume: VmfsMount): string | undefined {
  if (volume.uuid !== undefined && !isVolumeOf(datastore, volume)) {
    const own = datastore.vmfs?.uuid
    return `${directory} is the VMFS volume ${volume.uuid}; datastore ${datastore.name} is ${own === undefined ? `no VMFS volume but ${datastore.type}` : own}`
  }
  const missing = missingExtents(datastore, volume)
  return missing.length === 0
    ? undefined
    : `datastore ${datastore.name} spans ${missing.length} LUNs (${missing.join(', ')}), and only ${volume.devices.length} of them ${volume.devices.length === 1 ? 'is' : 'are'} mounted in ${directory}`
}

/** Links in the mapped directory's own path are the administrator's; below it none is followed out (the disk room's rule). */
async function realOr(directory: string, words: (why: string) => string): Promise<string | { readonly refusal: string }> {
  try {
    return await realpath(directory)
  } catch (error) {
    if (isMissing(error)) return { refusal: words('which does not exist') }
    const known = fromErrno(error, directory)
    if (known === undefined) throw error
    return { refusal: words(`which cannot be used: ${known.message}`) }
  }
}
