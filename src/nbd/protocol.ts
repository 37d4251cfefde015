/** The numbers of docs/formats/nbd.md. */

export const NBD_MAGIC = 0x4e42444d41474943n
export const OPTION_MAGIC = 0x49484156454f5054n
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n
export const REQUEST_MAGIC = 0x25609513
export const SIMPLE_MAGIC = 0x67446698
export const CHUNK_MAGIC = 0x668e33ef

/** Handshake flags of the server; the client's are the same bits. */
export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const

export const REPLY = { ack: 1, server: 2, info: 3, metaContext: 4 } as const
/** Bit 31 marks an error. */
export const REPLY_ERROR = { unsupported: 0x80000001, invalid: 0x80000003, unknownExport: 0x80000006, tooBig: 0x80000009 } as const

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const

/** Transmission flags. */
export const EXPORT = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  flush: 1 << 2,
  trim: 1 << 5,
  writeZeroes: 1 << 6,
  df: 1 << 7,
  canMultiConn: 1 << 8,
} as const

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, cache: 5, writeZeroes: 6, blockStatus: 7 } as const
export const COMMAND_FLAG = { df: 1 << 2, requestOne: 1 << 3 } as const

export const CHUNK_DONE = 1
export const CHUNK = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5, error: 0x8001, errorOffset: 0x8002 } as const
/** Every chunk type with this bit is an error of its request. */
export const CHUNK_IS_ERROR = 0x8000

export const ALLOCATION = 'base:allocation'
/** Flags of an extent of `base:allocation`. */
export const EXTENT = { hole: 1, zero: 2 } as const

export const ERRNO = { EPERM: 1, EIO: 5, ENOMEM: 12, EINVAL: 22, ENOSPC: 28, EOVERFLOW: 75, ENOTSUP: 95, ESHUTDOWN: 108 } as const

/** Longest string of the protocol, bytes. */
export const LONGEST_STRING = 4096
/** Largest payload where nothing else was said, bytes. */
export const LARGEST_PAYLOAD = 32 * 1024 * 1024
export const REQUEST_BYTES = 28
