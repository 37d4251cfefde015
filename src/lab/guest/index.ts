/**
 * Guests of the lab: what runs inside a VM as far as a backup can tell.
 *
 * A guest keeps writing numbered, checksummed records over ALL its disks: record n goes to disk 0, then disk 1, …, each with payload blocks
 * scattered over the disk. So a disk image tells which record it ends with: after a quiesced snapshot the same number on every disk,
 * after a crash-consistent one n on some and n-1 on the others; and any lost, stale or mixed block breaks a checksum.
 * Records live in a reserved area: behind the last partition, or the whole of a blank disk; found again from the image alone.
 *
 * VMware Tools freeze and thaw, with their faults. Deterministic from the seed and the clock.
 */
import type { Abortable, Clock, Range } from '../../core/index.ts'

/** What the guest needs of a disk; a `LabDisk` is one. */
export interface GuestDisk {
  readonly size: number
  read(offset: number, into: Uint8Array): void
  write(offset: number, data: Uint8Array): void
  unmap(range: Range): void
}

/** Anything readable; a view of storage is one. */
export interface GuestImage {
  readonly size: number
  read(offset: number, into: Uint8Array): void
}

/** How VMware Tools behave. */
export type ToolsState =
  | 'running'
  | 'notRunning'
  | 'notInstalled'
  /** pre-freeze script ends non-zero: ApplicationQuiesceFault. */
  | 'scriptFails'
  /** VSS writer fails: ApplicationQuiesceFault. */
  | 'vssFails'
  /** Cannot hold still: thaws before the snapshot is made; FilesystemQuiesceFault at thaw. */
  | 'cannotHold'
  /** Never answers: FilesystemQuiesceFault when the freeze limit has passed. */
  | 'hangs'

export type GuestOptions = {
  readonly clock: Clock
  /** Any 32-bit number; the payload follows from it. Taken from the disks when they hold records already. */
  readonly seed: number
  /** 0 = writes only when told. */
  readonly recordsPerSecond: number
  readonly tools?: ToolsState | undefined
  /** Told of write errors (a full datastore) of the workload, which then pauses until `resume`, like a VM with a question. */
  readonly onError?: ((error: unknown) => void) | undefined
}

export declare class QuiesceError extends Error {
  readonly fault: 'ApplicationQuiesceFault' | 'FilesystemQuiesceFault' | 'ToolsUnavailable'
}

/** A frozen guest. */
export interface Frozen {
  /** Lets the guest go on. `held: false` = the limit passed or the guest let go before: raise FilesystemQuiesceFault and drop the snapshot. */
  thaw(): { readonly held: boolean }
}

export type GuestWrite =
  | { readonly records: number }
  /** Overwrites `percent` of the disk in scattered blocks of `blockBytes` with random data of `seed`, sparing the records. */
  | { readonly percent: number; readonly blockBytes: number; readonly seed: number; readonly disk?: number | undefined }
  /** Overwrites exactly these areas (whole sectors) with random data, records or not. */
  | { readonly areas: readonly Range[]; readonly seed: number; readonly disk?: number | undefined; readonly unmap?: boolean | undefined }

export type GuestWritten = { readonly lastRecord: number; readonly perDisk: readonly { readonly bytes: number; readonly areas: number }[] }

/** The workload of one VM. `disks` in the order of their device keys; one that has no room for records is left alone. */
export declare class Guest implements AsyncDisposable {
  static open(disks: readonly GuestDisk[], options: GuestOptions): Guest
  tools: ToolsState
  /** Last record completely written to all disks. */
  get lastRecord(): number
  get frozen(): boolean
  /** Begins writing at the set rate (power-on). */
  start(): void
  /** Ends it after the write in flight (power-off, or a crash of the guest: the record in flight may be on some disks only). */
  stop(): Promise<void>
  setRate(recordsPerSecond: number): void
  /** The disks changed (hot-add, removal, a revert): the workload continues on these. */
  setDisks(disks: readonly GuestDisk[]): void
  /** Freezes through Tools: the record in flight is finished on all disks, then nothing is written until thaw or `limitMs`. Throws QuiesceError. */
  quiesce(limitMs: number, options?: Abortable): Promise<Frozen>
  /** Stuns the VM: no write from now on until disposed, wherever the workload stands. Take all redo logs of a VM under ONE stun. */
  stun(): Disposable
  /** Goes on after a write error. */
  resume(): void
  /** Writes at once, running or not. Refused while frozen. */
  writeNow(write: GuestWrite): Promise<GuestWritten>
  [Symbol.asyncDispose](): Promise<void>
}

export type DiskCheck = {
  /** False: this image has no record area (nothing to check, no problem). */
  readonly hasRecords: boolean
  readonly lastRecord: number
  /** Surviving records that were checked. */
  readonly records: number
  readonly problems: readonly string[]
}
export type GuestCheck = {
  readonly ok: boolean
  /** Same last record on all disks. */
  readonly sameRecord: boolean
  readonly disks: readonly DiskCheck[]
}
/** Checks every record, payload block and number on all disks of a VM as one set; images in the guest's order of disks. Yields between disks. */
export declare function fsck(images: readonly GuestImage[]): Promise<GuestCheck>
