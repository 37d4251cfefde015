/**
 * Virtual disks as files: reads every VMDK flavour that ESXi and the hosted products leave on a datastore, and writes the ones a
 * restore or an export needs. Own code, nothing of VMware's disk library.
 *
 * A format is a `BlockSource` layer over `ByteSource` (a local file, or whatever a transport brings); `openDisk` makes one link of a
 * descriptor, `openChain` the complete disk of a snapshot chain. What is not understood is refused in a sentence; nothing is padded.
 * Memory is bounded whatever the disk's size: tables are read through small caches, extents are streamed.
 * Layouts and what is refused: docs/formats/vmdk-*.md.
 */
import type { Abortable, BlockSink, BlockSource, Clock, Range } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'
import type { Descriptor } from './descriptor.ts'
import type { DiskFiles } from './disk-files.ts'

export type { ByteSource } from './byte-source.ts'
export { type Descriptor, type DescriptorExtent, type ExtentType, NO_PARENT } from './descriptor.ts'
export type { DiskFiles } from './disk-files.ts'

// --- files
/** Opens a local file for reading. Refuses what is not a regular file (FIFO, socket, device unless `devices`). */
export declare function openLocalFile(path: string, options?: { readonly devices?: boolean | undefined }): Promise<ByteSource>
export declare function localDiskFiles(options?: {
  readonly roots?: readonly string[] | undefined
  readonly map?: ((reference: string, from: string | undefined) => Promise<string | undefined>) | undefined
  readonly devices?: boolean | undefined
}): DiskFiles
export declare function memoryBytes(bytes: Uint8Array, name?: string): ByteSource

// --- descriptors
export declare function parseDescriptor(bytes: Uint8Array, name: string): Descriptor
export declare function formatDescriptor(descriptor: Descriptor): Uint8Array

// --- reading
/** Facts of one opened link of a disk. */
export type DiskLink = {
  readonly location: string
  readonly descriptor: Descriptor
  readonly capacityBytes: number
}
export interface DiskLayer extends BlockSource {
  readonly link: DiskLink
}
export interface DiskChain extends BlockSource {
  /** Top first, base last. */
  readonly links: readonly DiskLink[]
}
/** One link alone: what the layer does not hold is `absent`. */
export declare function openDisk(reference: string, files: DiskFiles, options?: Abortable): Promise<DiskLayer>
/** The complete disk: the link and every parent below it. */
export declare function openChain(reference: string, files: DiskFiles, options?: Abortable): Promise<DiskChain>
export declare function openFlat(bytes: ByteSource, range?: Range): BlockSource
export declare function overlay(top: BlockSource, parent: BlockSource): BlockSource
export declare function zeroSource(size: number): BlockSource
export declare function memorySource(bytes: Uint8Array, extents?: readonly import('../core/index.ts').Extent[]): BlockSource

/** Decodes a streamOptimized file arriving forward only (a lease's download). INTEGRITY when it ends early. */
export interface StreamOptimizedStream {
  /** Bytes. */
  readonly capacityBytes: number
  readonly descriptor: Descriptor | undefined
  /** Stored grains in the order they come; what is not yielded is zero. Consumed once; completes only when the stream is proven whole. */
  grains(): AsyncIterable<{ readonly offset: number; readonly data: Uint8Array }>
}
export declare function decodeStreamOptimized(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  options?: Abortable,
): Promise<StreamOptimizedStream>

// --- writing
export type ExportFormat = 'flat' | 'split-sparse' | 'streamOptimized'
export type DiskLook = {
  /** `ddb.adapterType`; default lsilogic. */
  readonly adapterType?: string | undefined
  /** `ddb.uuid`, `60 00 C2 9x …`. */
  readonly uuid?: string | undefined
  /** `ddb.virtualHWVersion`; default 14. */
  readonly hardwareVersion?: number | undefined
  /** vmfs only: `ddb.thinProvisioned`. Default true. */
  readonly thin?: boolean | undefined
  /** 8 hex digits; a fixed value derived from name and size otherwise. */
  readonly cid?: string | undefined
}
export type ExportProgress = { readonly doneBytes: number; readonly writtenBytes: number }
export type ExportOptions = Abortable &
  DiskLook & {
    /** flat only: `hosted` = monolithicFlat (default), `vmfs` = as ESXi writes it (`NAME.vmdk` + `NAME-flat.vmdk`). */
    readonly flavour?: 'hosted' | 'vmfs' | undefined
    readonly onProgress?: ((progress: ExportProgress) => void) | undefined
  }
/** File names inside the directory, descriptor first. */
export type ExportedDisk = { readonly files: readonly { readonly name: string; readonly size: number }[] }
/** Writes `NAME.vmdk` (and its extents) into an existing directory. Removes what it began when it fails. CONFLICT when a file exists. */
export declare function exportDisk(
  source: BlockSource,
  directory: string,
  name: string,
  format: ExportFormat,
  options?: ExportOptions,
): Promise<ExportedDisk>
/** A flat disk to write to in any order: descriptor and sparse flat file; files vanish when disposed without `flush`. */
export declare function createFlatDisk(
  directory: string,
  name: string,
  size: number,
  options?: DiskLook & { readonly flavour?: 'hosted' | 'vmfs' | undefined },
): Promise<BlockSink>
/** A raw image without descriptor; the file vanishes when disposed without `flush`. */
export declare function createRawFile(path: string, size: number): Promise<BlockSink>
/** The disk as one streamOptimized VMDK, forward only and deterministic: for a file or a lease's upload. */
export declare function streamOptimized(
  source: BlockSource,
  name: string,
  options?: Abortable &
    DiskLook & { readonly level?: number | undefined; readonly onProgress?: ((progress: ExportProgress) => void) | undefined },
): AsyncIterable<Uint8Array>

// --- wrappers
export type RetryPolicy = {
  /** Attempts in all, the first included. */
  readonly attempts: number
  /** Pause before the second attempt, ms; doubles each time up to `maxDelayMs`. */
  readonly delayMs: number
  readonly maxDelayMs: number
}
/** Repeats reads and listings whose error says `retry: now | later`. */
export declare function retrying(source: BlockSource, policy: RetryPolicy, clock: Clock): BlockSource
/** Holds the reading rate to `bytesPerSecond`. */
export declare function throttled(source: BlockSource, bytesPerSecond: number, clock: Clock): BlockSource
