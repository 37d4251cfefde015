/**
 * Rank 1. The kernel's FUSE protocol (docs/formats/fuse.md), as far as disks shown as files in one directory (`serveFiles`), and read-only trees (`serveTree`),
 * need it. No library and no program but `mount` and `dd`. Whoever serves must not read what it serves: see `FuseServer`.
 */
export { type FuseOptions, type FuseServer, serveFiles, serveTree } from './server.ts'
export type { FileActivity, FileToServe } from './served-file.ts'
export { TREE_ROOT, type TreeAttributes, type TreeEntry, type TreeToServe } from './served-tree.ts'
