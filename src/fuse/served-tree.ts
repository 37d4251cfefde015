import type { Abortable } from '../core/index.ts'

/** What `stat` shows of one file or directory of a tree. Bytes. */
export type TreeAttributes = {
  readonly directory: boolean
  readonly size: number
  /** Space that it takes up. */
  readonly allocated: number
  readonly modified: Date
  readonly permissions: number
}

/** One name in a directory. `node` is a whole number that means this file as long as the tree is served. */
export type TreeEntry = TreeAttributes & { readonly name: string; readonly node: number }

/** The root of every tree. */
export const TREE_ROOT = 1

/**
 * A read-only tree of directories and files, which does not change. Called many times, also concurrently. Its nodes come from the kernel, which has them from here; one that is
 * none is INTEGRITY. Errors: INTEGRITY (what was to be read is damaged), those of its source.
 */
export interface TreeToServe {
  /** Of the whole, for `df`. Bytes. */
  readonly size: number
  attributes(node: number, options?: Abortable): Promise<TreeAttributes>
  /** What is in a directory, without `.` and `..`; always in the same order, and every name once. */
  list(node: number, options?: Abortable): Promise<readonly TreeEntry[]>
  /** The entry of this name, spelled just so; undefined when there is none. */
  find(node: number, name: string, options?: Abortable): Promise<TreeEntry | undefined>
  /** Fills `into` from a file that has that much or throws; never a short read. */
  read(node: number, offset: number, into: Uint8Array, options?: Abortable): Promise<void>
}
