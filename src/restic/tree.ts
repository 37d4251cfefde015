import type { BlobIds } from './ids.ts'

export type NodeType = 'file' | 'dir' | 'symlink' | 'dev' | 'chardev' | 'fifo' | 'socket'

/** One entry of a directory, as restic stores it. Written by the provider for files and directories; others only come from restic. */
export type TreeNode = {
  /** One path component, never empty, `.`, `..` or with a slash. */
  readonly name: string
  readonly type: NodeType
  /** Permission bits (0o600); type bits are added and removed here. */
  readonly mode: number
  /** RFC 3339; any precision up to nanoseconds. `atime` and `ctime` default to it when written. */
  readonly mtime: string
  readonly atime?: string | undefined
  readonly ctime?: string | undefined
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  readonly user?: string | undefined
  readonly group?: string | undefined
  /** Bytes; files only. */
  readonly size?: number | undefined
  readonly linktarget?: string | undefined
  /** Files only: their data blobs in order. */
  readonly content?: BlobIds | undefined
  /** Directories only: hex id of their tree. */
  readonly subtree?: string | undefined
}
