import { AgentError } from '../../core/index.ts'
import type { FileSystemType } from '../volumes/volume.ts'

/**
 * How a file system is mounted: by the kernel through a loop device, by a FUSE program that reads the image file itself, or by this process, which reads its files
 * (docs/adr/0013-fat.md).
 */
export type MountKind =
  | { readonly by: 'kernel'; readonly type: string; readonly options: readonly string[] }
  | { readonly by: 'program'; readonly program: 'ntfs-3g'; readonly options: readonly string[] }
  | { readonly by: 'us' }

/** What every mount of a guest's file system gets: nothing in it may run, be a device, or raise anyone's rights. */
export const SAFE = ['ro', 'nosuid', 'nodev', 'noexec'] as const

/**
 * How a type is mounted.
 * XFS: `nouuid`, because a snapshot has the UUID of the original, which may be mounted. ntfs-3g: `streams_interface=xattr` shows alternate streams as
 * attributes `user.NAME`, which products store with a file; as `file:stream` they would not, and listing attributes would fail with EINVAL, which restic and Borg
 * take for a file they cannot read (seen with 2022.10.3). Read-only, it leaves the log alone (ntfs-3g(8)).
 */
export function mountKind(type: FileSystemType): MountKind {
  switch (type) {
    case 'xfs':
      return { by: 'kernel', type, options: ['nouuid'] }
    case 'ntfs':
      return { by: 'program', program: 'ntfs-3g', options: ['streams_interface=xattr', 'no_detach'] }
    case 'fat':
      return { by: 'us' }
    default:
      return { by: 'kernel', type, options: [] }
  }
}

/** A subvolume of a btrfs, by its path. USAGE for one that mount(8) would take for more options. */
export function subvolumeOf(path: string): MountKind & { readonly by: 'kernel' } {
  if (!path.includes(',')) return { by: 'kernel', type: 'btrfs', options: [`subvol=${path}`] }
  throw new AgentError('USAGE', `The subvolume ${path} has a name that cannot be mounted.`, {
    next: 'It is shown inside the whole file system.',
  })
}
