/**
 * Guests of the lab: what runs inside a VM as far as a backup can tell.
 *
 * A guest keeps writing numbered, checksummed records over ALL its disks: record n goes to disk 0, then disk 1, …, each with payload blocks
 * scattered over the disk. So a disk image tells which record it ends with: after a quiesced snapshot the same number on every disk,
 * after a crash-consistent one n on some and n-1 on the others; and any lost, stale or mixed block breaks a checksum.
 * Records live in a reserved area: behind the last partition, or all over a blank disk; found again from the image alone.
 *
 * VMware Tools freeze and thaw, with their faults. Deterministic from the seed and the clock.
 */
export { type DiskCheck, fsck, type GuestCheck } from './fsck.ts'
export { type Frozen, Guest, type GuestOptions, type GuestWrite, type GuestWritten } from './guest.ts'
export type { GuestDisk, GuestImage } from './record-area.ts'
export { QuiesceError, type ToolsState } from './tools.ts'
export { type GuestAccount, type GuestEvent, type GuestProcess, type GuestProgram, GuestSystem } from './guest-system.ts'
