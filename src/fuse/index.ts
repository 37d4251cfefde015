/**
 * Rank 1. The kernel's FUSE protocol (docs/formats/fuse.md), as far as disks shown as files in one directory need it: `serveFiles` mounts the directory and
 * answers. No library and no program but `mount` and `dd`. Whoever serves must not read what it serves: see `FuseServer`.
 */
export { type FuseOptions, type FuseServer, serveFiles } from './server.ts'
export type { FileActivity, FileToServe } from './served-file.ts'
