/**
 * Virtual disks as files: reads every VMDK flavour that ESXi and the hosted products leave on a datastore, and writes the ones a
 * restore or an export needs. Own code, nothing of VMware's disk library.
 *
 * A format is a `BlockSource` layer over `ByteSource` (a local file, or whatever a transport brings); `openDisk` makes one link of a
 * descriptor, `openChain` the complete disk of a snapshot chain. What is not understood is refused in a sentence; nothing is padded.
 * Memory is bounded whatever the disk's size: tables are read through small caches, extents are streamed.
 * Layouts and what is refused: docs/formats/vmdk-*.md.
 */
export type { ByteSource } from './byte-source.ts'
export { ahead } from './ahead.ts'
export { copyDisk, type ExportProgress } from './copy-disk.ts'
export { type CowDisk, type CowOptions, createCowDisk } from './cow-disk.ts'
export { openCowd } from './cowd.ts'
export { type Descriptor, type DescriptorExtent, ddbValue, descriptorCapacity, type ExtentType, NO_PARENT, parentOf } from './descriptor.ts'
export { parseDescriptor } from './descriptor-parser.ts'
export { formatDescriptor } from './descriptor-writer.ts'
export { type DiskFiles, type LocalDiskFilesOptions, localDiskFiles } from './disk-files.ts'
export { type ExportedDisk, type ExportFormat, type ExportOptions, exportDisk } from './export-disk.ts'
export { faulty, type SourceCall } from './faulty.ts'
export { type Filled, fillDisk } from './fill-disk.ts'
export { openFlat } from './flat.ts'
export { createFlatDisk, type FlatFlavour } from './flat-disk.ts'
export { openHostedSparse } from './hosted-sparse.ts'
export { type LocalFileOptions, openLocalFile } from './local-file.ts'
export { memoryBytes } from './memory-bytes.ts'
export { memorySource, zeroSource } from './memory-source.ts'
export { type GateState, LatencyGate } from './latency-gate.ts'
export { type DiskLook, newDescriptor } from './new-descriptor.ts'
export { type DiskChain, MAX_LINKS, openChain } from './open-chain.ts'
export { type DiskLayer, type DiskLink, openDisk } from './open-disk.ts'
export { noticing } from './noticing.ts'
export { overlay } from './overlay.ts'
export { createPace, type Pace } from './pace.ts'
export type { Place, PlacedSource } from './place.ts'
export { createRawFile, openRawDevice } from './raw-file.ts'
export { ReadAheadRoom } from './read-ahead-room.ts'
export { readingAhead } from './reading-ahead.ts'
export { type RetryPolicy, retrying } from './retrying.ts'
export { openSeSparse } from './se-sparse.ts'
export { decodeStreamOptimized, type StreamGrain, type StreamOptimizedStream } from './stream-decoder.ts'
export { type StreamOptions, streamOptimized } from './stream-writer.ts'
export { paced, throttled } from './throttled.ts'
export { readVmfsHeader, type VmfsHeader } from './vmfs-header.ts'
