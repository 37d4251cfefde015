import { readdir, readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { type Abortable, type DatastoreRef, isMissing, toAgentError } from '../core/index.ts'
import { openLocalFile, readVmfsHeader } from '../disk/index.ts'
import type { MountedFileSystem } from './mount-info.ts'

/** A VMFS volume mounted by vmfs-fuse or vmfs6-fuse, and what the LUNs behind it say. */
export type VmfsMount = {
  readonly mountPoint: string
  /** As given to the program that serves the mount; none when that cannot be told. */
  readonly devices: readonly string[]
  /** Of the file system on them; undefined when none of them could be read. */
  readonly uuid: string | undefined
  /** Why the LUNs were not read. */
  readonly reason: string
}

const PROGRAM = /^vmfs6?-fuse$/

/** Whether a mount is one of vmfs-tools or vmfs6-tools: FUSE names its type after the program. */
export const isVmfs = ({ type, source }: MountedFileSystem): boolean => /^fuse(blk)?(\.|$)/.test(type) && /vmfs/.test(`${type} ${source}`)

/**
 * The VMFS volumes mounted here. FUSE does not tell which LUNs are behind a mount, so the command line of the program that serves it is read, and
 * then the LUNs' headers (docs/formats/vmfs-header.md): nothing depends on what the directory is called. `processes` is /proc.
 */
export async function vmfsMounts(
  mounts: readonly MountedFileSystem[],
  options: Abortable & { readonly processes?: string | undefined } = {},
): Promise<readonly VmfsMount[]> {
  const points = mounts.filter(isVmfs)
  if (points.length === 0) return []
  const served = await servedDevices(options.processes ?? '/proc')
  return Promise.all(
    points.map(async ({ mountPoint }): Promise<VmfsMount> => {
      const devices = served.get(mountPoint) ?? []
      return { mountPoint, devices, ...(await uuidOf(devices, options)) }
    }),
  )
}

/** LUNs of a spanned volume that the mount does not have, as vSphere names them. */
export function missingExtents({ vmfs }: DatastoreRef, mount: VmfsMount): readonly string[] {
  const extents = vmfs?.extents ?? []
  return mount.devices.length > 0 && mount.devices.length < extents.length ? extents : []
}

/** Mount point → devices, from the command lines `vmfs6-fuse [options] VOLUME… MOUNT_POINT`. */
async function servedDevices(processes: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const found = new Map<string, readonly string[]>()
  for (const pid of await readdir(processes)) {
    if (!/^\d+$/.test(pid)) continue
    const [program, ...rest] = (await readOrNothing(join(processes, pid, 'cmdline'))).split('\0')
    if (!PROGRAM.test(program?.split('/').at(-1) ?? '')) continue
    const words = rest.filter((word, index) => word !== '' && !word.startsWith('-') && rest[index - 1] !== '-o')
    const mountPoint = words.pop()
    // The program changes to / when it goes into the background: a relative path means nothing any more.
    if (mountPoint?.startsWith('/') !== true || words.some((word) => !word.startsWith('/'))) continue
    found.set(await realOr(mountPoint), words)
  }
  return found
}

async function uuidOf(devices: readonly string[], options: Abortable): Promise<Pick<VmfsMount, 'uuid' | 'reason'>> {
  if (devices.length === 0) return { uuid: undefined, reason: 'which LUN is behind it cannot be told' }
  let reason = 'none of its LUNs holds the header of a file system'
  for (const device of devices) {
    try {
      await using bytes = await openLocalFile(await realOr(device), { devices: true })
      const { uuid } = await readVmfsHeader(bytes, options)
      if (uuid !== undefined) return { uuid, reason: '' }
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      reason = shown.message
    }
  }
  return { uuid: undefined, reason }
}

async function readOrNothing(path: string): Promise<string> {
  try {
    return await readFile(path, 'latin1')
  } catch {
    // The process has ended, or is another user's.
    return ''
  }
}

/** /dev/disk/by-id/… is a link; a name that is gone stays as it is. */
async function realOr(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (isMissing(error)) return path
    throw error
  }
}

/** Whether a LUN is attached to this machine, by the name vSphere has for it (`naa.6…`): the device, a multipath one before others. */
export async function lunHere(diskName: string, directory = '/dev/disk/by-id'): Promise<string | undefined> {
  const hex = /^(?:naa|eui)\.([0-9a-f]+)$/i.exec(diskName)?.[1]?.toLowerCase()
  if (hex === undefined) return undefined
  let names: readonly string[]
  try {
    names = await readdir(directory)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  const known = new Set([`dm-uuid-mpath-3${hex}`, `wwn-0x${hex}`, `scsi-3${hex}`, `nvme-eui.${hex}`])
  const found = [...known].find((name) => names.includes(name))
  return found === undefined ? undefined : join(directory, found)
}
