import { type AgentError, isAgentError } from '../../core/index.ts'
import { driveLetters, SYSTEM_HIVE } from './drive-letters.ts'
import { type FstabEntry, parseFstab, volumeNamed } from './fstab.ts'
import type { Volume } from './volume.ts'

/** One place of the mount directory at which a volume is shown. */
export type Place = {
  /** Relative, with `/`, of plain names only: `digits/1`, `letters/C`, `root`, `root/boot`. */
  readonly path: string
  readonly volume: Volume
  /** Option `subvol=` of btrfs, which the kernel resolves inside the file system; undefined: its default. A plain path without `..`. */
  readonly subvolume: string | undefined
}

export type Layout = {
  /**
   * Every file system once under `digits/`, in order; then `letters/`; then `root`, parents before what is in them. A mount point below `root` lies in the
   * guest's own tree: who mounts there must see that every name on the way is a real directory, since a symbolic link would lead into the proxy's tree.
   */
  readonly places: readonly Place[]
  /** What could not be used of what the guests say; sentences. */
  readonly notes: readonly string[]
}

/**
 * Reads a whole file of a volume's file system, at most `limit` bytes; undefined when it is not there, is no plain file, or is larger. `anyCase`: names are
 * compared without case, as Windows does.
 */
export type ReadGuestFile = (
  volume: Volume,
  names: readonly string[],
  options: { readonly limit: number; readonly anyCase: boolean },
) => Promise<Uint8Array | undefined>

const MOST_HIVE = 256 * 1024 * 1024
const MOST_FSTAB = 1024 * 1024
/** Where distributions keep the root of a btrfs: the top or its default subvolume, Ubuntu and SUSE, Fedora, Debian. */
const BTRFS_ROOTS: readonly string[] = ['', '@', 'root', '@rootfs']

/**
 * Where the volumes are to be shown: `digits/NUMBER` for each file system, `letters/C` as the Windows of this VM names them, `root/` as its Linux mounts them.
 * Called once for a mount, when the volumes under `digits/` can be read. `disks`: keys in the order of the disks. Errors: those of `read`; what is damaged in
 * the guest is a note.
 */
export async function layOut(volumes: readonly Volume[], disks: readonly number[], read: ReadGuestFile): Promise<Layout> {
  const mountable = volumes.filter((volume) => volume.content.kind === 'file-system')
  const digits = mountable.map((volume): Place => ({ path: `digits/${volume.number}`, volume, subvolume: undefined }))
  const notes: string[] = []
  const letters = await letterPlaces(mountable, read, notes)
  const root = await rootPlaces(mountable, disks, read, notes)
  return { places: [...digits, ...letters, ...root], notes }
}

async function letterPlaces(volumes: readonly Volume[], read: ReadGuestFile, notes: string[]): Promise<Place[]> {
  const places = new Map<string, Place>()
  for (const volume of volumes.filter(isOf('ntfs'))) {
    const hive = await read(volume, SYSTEM_HIVE, { limit: MOST_HIVE, anyCase: true })
    if (hive === undefined) continue
    try {
      for (const [letter, named] of driveLetters(hive, volumes)) {
        // Two installations may call one letter differently: the first one's word counts, the numbers show the rest.
        if (!places.has(letter)) places.set(letter, { path: `letters/${letter}`, volume: named, subvolume: undefined })
      }
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY')) throw error
      notes.push(told(error))
    }
  }
  return [...places.values()]
}

type Root = {
  readonly volume: Volume
  readonly subvolume: string | undefined
  readonly entries: readonly FstabEntry[]
  readonly refused: readonly string[]
}

/** The first volume with an fstab that calls it `/`; without one, the first that has an fstab. */
async function rootPlaces(volumes: readonly Volume[], disks: readonly number[], read: ReadGuestFile, notes: string[]): Promise<Place[]> {
  const found: Root[] = []
  for (const volume of volumes.filter(isOf('ext2', 'ext3', 'ext4', 'xfs', 'btrfs'))) {
    const root = await readRoot(volume, read)
    if (root !== undefined) found.push(root)
  }
  const isItself = (root: Root): boolean =>
    root.entries.some((entry) => entry.where.length === 0 && volumeNamed(entry.what, volumes, disks) === root.volume)
  const root = found.find(isItself) ?? found[0]
  if (root === undefined) return []
  notes.push(...root.refused.map((half) => `${half}.`))
  const places: Place[] = [{ path: 'root', volume: root.volume, subvolume: root.subvolume }]
  for (const entry of root.entries) {
    if (entry.where.length === 0) continue
    const volume = volumeNamed(entry.what, volumes, disks)
    if (volume === undefined)
      notes.push(`The guest mounts ${JSON.stringify(entry.what)} at /${entry.where.join('/')}; no volume here answers to that.`)
    else
      places.push({
        path: ['root', ...entry.where].join('/'),
        volume,
        subvolume: volume.content.kind === 'file-system' && volume.content.type === 'btrfs' ? entry.subvolume : undefined,
      })
  }
  return places
}

async function readRoot(volume: Volume, read: ReadGuestFile): Promise<Root | undefined> {
  const isBtrfs = isOf('btrfs')(volume)
  for (const subvolume of isBtrfs ? BTRFS_ROOTS : ['']) {
    const names = [...(subvolume === '' ? [] : [subvolume]), 'etc', 'fstab']
    const bytes = await read(volume, names, { limit: MOST_FSTAB, anyCase: false })
    if (bytes === undefined) continue
    return { volume, subvolume: subvolume === '' ? undefined : subvolume, ...parseFstab(bytes) }
  }
  return undefined
}

const isOf =
  (...types: readonly string[]) =>
  ({ content }: Volume): boolean =>
    content.kind === 'file-system' && types.includes(content.type)

const told = (error: AgentError): string => `${error.message} ${error.next}`
