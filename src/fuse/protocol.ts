/** The numbers of docs/formats/fuse.md, and the records of its answers. */

export const OPCODE = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  fallocate: 43,
  lseek: 46,
} as const

/** Flags of INIT. */
export const INIT = { asyncRead: 1 << 0, bigWrites: 1 << 5, parallelDirops: 1 << 18, maxPages: 1 << 22 } as const
/** Flags of the answer to OPEN: pages of the file that the kernel has stay right. */
export const KEEP_CACHE = 1 << 1

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOSPC: 28,
  EROFS: 30,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
} as const

export const VERSION = { major: 7, minor: 31 } as const
export const IN_HEADER = 40
export const OUT_HEADER = 16
/** Largest WRITE, bytes. */
export const MOST_WRITTEN = 128 * 1024
/** Largest READ, in pages of 4 KiB, and in bytes. */
export const MOST_PAGES = 256
export const MOST_READ = MOST_PAGES * 4096
/** What the kernel may send at once, bytes: a WRITE with its heads. The device wants to be read with a buffer of no less. */
export const LARGEST_REQUEST = MOST_WRITTEN + 8192

export const ROOT_NODE = 1
const DIRECTORY = 0o040000
const REGULAR = 0o100000
const DT_DIRECTORY = 4
const DT_REGULAR = 8
/** The names and attributes of what does not change are right for so long, seconds. */
const VALID = 3600n

/** A file or the directory of them, as `stat` shows it. Sizes in bytes. */
export type Attributes = {
  readonly node: number
  readonly directory: boolean
  readonly size: number
  /** Space that it takes up, bytes. */
  readonly allocated: number
  readonly modified: Date
  readonly permissions: number
  readonly user: number
  readonly group: number
}

/** 88 bytes. */
function attributes(attr: Attributes): Buffer {
  const record = Buffer.alloc(88)
  const seconds = BigInt(Math.floor(attr.modified.getTime() / 1000))
  const nanoseconds = (attr.modified.getTime() % 1000) * 1_000_000
  record.writeBigUInt64LE(BigInt(attr.node), 0)
  record.writeBigUInt64LE(BigInt(attr.size), 8)
  record.writeBigUInt64LE(BigInt(Math.ceil(attr.allocated / 512)), 16)
  for (const at of [24, 32, 40]) record.writeBigUInt64LE(seconds, at)
  for (const at of [48, 52, 56]) record.writeUInt32LE(nanoseconds, at)
  record.writeUInt32LE((attr.directory ? DIRECTORY : REGULAR) | attr.permissions, 60)
  // One link is, for a directory too, what says nothing of those inside.
  record.writeUInt32LE(1, 64)
  record.writeUInt32LE(attr.user, 68)
  record.writeUInt32LE(attr.group, 72)
  record.writeUInt32LE(4096, 80)
  return record
}

/** Answer to GETATTR. */
export function attrOut(attr: Attributes): Buffer {
  const head = Buffer.alloc(16)
  head.writeBigUInt64LE(VALID, 0)
  return Buffer.concat([head, attributes(attr)])
}

/** Answer to LOOKUP. */
export function entryOut(attr: Attributes): Buffer {
  const head = Buffer.alloc(40)
  head.writeBigUInt64LE(BigInt(attr.node), 0)
  head.writeBigUInt64LE(VALID, 16)
  head.writeBigUInt64LE(VALID, 24)
  return Buffer.concat([head, attributes(attr)])
}

/** Answer to OPEN and OPENDIR. */
export function openOut(handle: number, flags: number): Buffer {
  const record = Buffer.alloc(16)
  record.writeBigUInt64LE(BigInt(handle), 0)
  record.writeUInt32LE(flags, 8)
  return record
}

/** One entry of READDIR; `next` is where reading goes on after it. */
export function directoryEntry(node: number, name: string, next: number, directory: boolean): Buffer {
  const bytes = Buffer.from(name)
  const record = Buffer.alloc(24 + Math.ceil(bytes.length / 8) * 8)
  record.writeBigUInt64LE(BigInt(node), 0)
  record.writeBigUInt64LE(BigInt(next), 8)
  record.writeUInt32LE(bytes.length, 16)
  record.writeUInt32LE(directory ? DT_DIRECTORY : DT_REGULAR, 20)
  bytes.copy(record, 24)
  return record
}

/** Answer to INIT: what both sides can do. `offered` and `readahead` are the kernel's. */
export function initOut(offered: number, readahead: number): Buffer {
  const record = Buffer.alloc(64)
  record.writeUInt32LE(VERSION.major, 0)
  record.writeUInt32LE(VERSION.minor, 4)
  record.writeUInt32LE(Math.max(readahead, MOST_READ), 8)
  record.writeUInt32LE((offered & (INIT.asyncRead | INIT.bigWrites | INIT.parallelDirops | INIT.maxPages)) >>> 0, 12)
  record.writeUInt16LE(16, 16)
  record.writeUInt16LE(12, 18)
  record.writeUInt32LE(MOST_WRITTEN, 20)
  record.writeUInt32LE(1, 24)
  record.writeUInt16LE(MOST_PAGES, 28)
  return record
}

/** Answer to STATFS: a full file system of `bytes`. */
export function statfsOut(bytes: number, files: number): Buffer {
  const record = Buffer.alloc(80)
  record.writeBigUInt64LE(BigInt(Math.ceil(bytes / 4096)), 0)
  record.writeBigUInt64LE(BigInt(files), 24)
  record.writeUInt32LE(4096, 40)
  record.writeUInt32LE(255, 44)
  record.writeUInt32LE(4096, 48)
  return record
}
