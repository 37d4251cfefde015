import type { BlockSource } from '../../core/index.ts'

/** One disk of a VM, opened for reading. Its owner disposes it, after everything that was read of it is no longer used. */
export type OpenDisk = {
  /** vSphere's device key. */
  readonly key: number
  /** For people: `Hard disk 1`, `scsi0:0`. */
  readonly label: string
  readonly source: BlockSource
}

/** Where a volume that is one partition lies. A whole disk and a logical volume have none. */
export type VolumePartition = {
  /** `key` of its disk. */
  readonly disk: number
  readonly scheme: 'mbr' | 'gpt'
  /** As Linux counts: 1.. in order of the table; logical partitions of an MBR from 5. */
  readonly index: number
  /** GPT type GUID in upper case, or two hexadecimal digits of an MBR's type (`07`). */
  readonly type: string
  /** Unique GUID of a GPT partition, lower case: `PARTUUID` of Linux, and what Windows writes in `MountedDevices`. */
  readonly uuid: string | undefined
  /** `PARTLABEL` of Linux: the name in a GPT. */
  readonly name: string | undefined
  /** Disk signature of an MBR. */
  readonly diskSignature: number | undefined
  /** Bytes from the beginning of the disk. */
  readonly offset: number
}

export type FileSystemType = 'ext2' | 'ext3' | 'ext4' | 'xfs' | 'btrfs' | 'ntfs' | 'fat' | 'exfat' | 'iso9660' | 'udf'

/** What was recognised, from a few sectors. */
export type VolumeContent =
  | {
      readonly kind: 'file-system'
      readonly type: FileSystemType
      /** As `blkid` writes it (FAT `1A2B-3C4D`, NTFS sixteen digits); undefined where the file system has none. */
      readonly uuid: string | undefined
      readonly label: string | undefined
      /** True: its own records say that it was not unmounted, and a log waits to be replayed. False is no proof of order where `note` says so. */
      readonly dirty: boolean
      /** One sentence on what was found, or on what cannot be told by reading; undefined when there is nothing to add. */
      readonly note: string | undefined
    }
  /** Something with data in it that is not opened: named, with the reason and what to do instead. */
  | { readonly kind: 'refused'; readonly what: string; readonly reason: string }
  /** Nothing to mount: swap, empty, unknown, reserved, BIOS boot, a physical volume whose logical volumes are listed. */
  | { readonly kind: 'none'; readonly what: string }

/**
 * A partition, a logical volume or a whole disk. `source` is a view: the disks own the bytes, disposing the view does nothing, and it may be read as long as
 * the disks are open.
 */
export type Volume = {
  /** 1.., in order of the disks, then of offset; logical volumes behind all partitions. `digits/NUMBER` of the layout. */
  readonly number: number
  /** A safe file name, unique: `disk0-part2`, `disk1`, `vg0-root`. The disks are counted in the order they were given. */
  readonly name: string
  readonly source: BlockSource
  readonly content: VolumeContent
  readonly partition: VolumePartition | undefined
  /** For a logical volume: its group and its name. */
  readonly logical: { readonly group: string; readonly name: string } | undefined
}
