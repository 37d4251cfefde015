import { AgentError, GIB, KIB, MIB, SECTOR } from '../core/index.ts'

/**
 * Bytes of every blob of an image in a restic repository, but an extent's last (docs/formats/restore-point.md): small blocks make incrementals small,
 * large ones the lists of a large disk short.
 */
export const BLOCK_SIZES: readonly number[] = Object.freeze([256 * KIB, MIB])
export const LARGEST_BLOCK = MIB
/** No disk has more blocks than this before they are as large as they become. */
const MOST_BLOCKS = 4 * 1024 * 1024

export type LayoutSizes = {
  /** Disks up to this many bytes are one file. */
  readonly singleUpTo: number
  /** Bytes of each extent of a bigger one; a multiple of the largest block. */
  readonly extentBytes: number
  /** Of `BLOCK_SIZES`, instead of the one that goes with the disk's size. */
  readonly blockBytes?: number | undefined
}
export const DEFAULT_SIZES: LayoutSizes = Object.freeze({ singleUpTo: 16 * GIB, extentBytes: 4 * GIB })

/** How an image of `size` bytes is cut into extents. One extent when `extentBytes` is undefined. */
export type ImageLayout = {
  readonly size: number
  readonly extentBytes: number | undefined
  /** Bytes of every block but an extent's last. */
  readonly blockBytes: number
  readonly count: number
  /** Bytes of extent `index`. */
  readonly sizeOf: (index: number) => number
  /** First byte of extent `index`. */
  readonly startOf: (index: number) => number
}

export function layoutFor(size: number, sizes: LayoutSizes = DEFAULT_SIZES): ImageLayout {
  return layoutOf(size, size <= sizes.singleUpTo ? undefined : sizes.extentBytes, sizes.blockBytes ?? blockBytesFor(size))
}

/** Bytes of a block of a disk of `size` bytes. */
export function blockBytesFor(size: number): number {
  return BLOCK_SIZES.find((bytes) => size <= bytes * MOST_BLOCKS) ?? LARGEST_BLOCK
}

/** The layout a manifest records. Points of early versions have blocks of 1 MiB. INTEGRITY when no writer made such a thing. */
export function layoutOf(size: number, extentBytes: number | undefined, blockBytes = MIB): ImageLayout {
  if (size <= 0 || size % SECTOR !== 0 || (extentBytes !== undefined && (extentBytes % SECTOR !== 0 || extentBytes <= 0))) {
    throw new AgentError('INTEGRITY', `An image of ${size} bytes in extents of ${extentBytes} cannot be.`)
  }
  const step = extentBytes ?? size
  const count = Math.ceil(size / step)
  return {
    size,
    extentBytes,
    blockBytes,
    count,
    sizeOf: (index) => Math.min(step, size - index * step),
    startOf: (index) => index * step,
  }
}

/** Name of an extent's directory: `00001`, … */
export const extentDirectory = (index: number): string => String(index + 1).padStart(5, '0')
/** The same name in every extent's directory, so that equal extents are equal trees. */
export const EXTENT_FILE = 'flat.vmdk'
