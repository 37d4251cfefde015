/**
 * Rank 2. Ways of reading a snapshot's disk as a `BlockSource`, none of which needs VDDK but the one named after it, and the plan that picks one per disk.
 *
 * `san` reads the files of a mounted datastore, `https` the same files over the datastore's web server, `nbdssl` and `nbd` ask the host's NFC
 * service for the whole chain as one disk, `lease` takes a whole disk as an export sends it, `ssh` reads the files in the shell of the host,
 * `hotadd` attaches the disk to the VM this process runs in. Each proves that the files it found are the disk vSphere describes before a byte is
 * trusted. `openPlanned` tries them in the configured order, records every refusal, and when a transport breaks in mid-run opens it again, then the
 * next one, and goes on where it was. `writePlanned` does the same for a restore's disk.
 */
export { absentTransport } from './absent-transport.ts'
export { foreseeDisk, type Foresight } from './foresee-disk.ts'
export { attachedEntries } from './hotadd-mark.ts'
export { attachedOnProxy, detachAttached, findAttached } from './hotadd-release.ts'
export { findProxy, type ProxyVm } from './hotadd-proxy.ts'
export { attachProblem } from './hotadd-attach.ts'
export { hotaddTransport } from './hotadd-transport.ts'
export { ProxyGuest, type ProxyGuestOptions } from './hotadd-guest.ts'
export { httpsTransport } from './https-transport.ts'
export { leaseTransport } from './lease-transport.ts'
export type { Buckets, BucketUse, TakeOptions, Token, Tokens, TokenUse, Waiting } from './buckets.ts'
export { createMemoryBuckets } from './memory-buckets.ts'
export { createPgBuckets, type PgBucketParts } from './pg-buckets.ts'
export { createSharedBuckets, type TokenOwner, type TokenOwners } from './shared-buckets.ts'
export { createLimits, DEFAULT_LIMITS, type JobLimits, type Limits, type LimitSettings } from './limits.ts'
export { type MountedFileSystem, mountOf, parseMountInfo } from './mount-info.ts'
export { mapDatastores, type MountedDatastore } from './mounted-datastores.ts'
export { nbdTransport, type NbdOptions } from './nbd-transport.ts'
export { canBeWritten } from './target-disk.ts'
export { createNfcLimits, type NfcLimits, type NfcLimitSettings } from './nfc-limits.ts'
export { DEFAULT_REOPEN, openPlanned, type PlannedDisk, type PlanOptions, type ReopenPolicy } from './planned-disk.ts'
export { NoTransportError, type Refusal } from './refusal.ts'
export { sanTransport, type SanOptions } from './san-transport.ts'
export { type RemotePart, remoteSink } from './remote-sink.ts'
export type { SshOptions } from './ssh-files.ts'
export { sshTransport } from './ssh-transport.ts'
export type {
  BlockDigest,
  DiskWriting,
  OpenDisk,
  OpenOptions,
  PresentDisk,
  SnapshotDisk,
  TargetDisk,
  Transport,
} from './transport.ts'
export { type VddkCompression, type VddkOptions, vddkTransport } from './vddk-transport.ts'
export { lunHere } from './vmfs-mount.ts'
export { NoWriterError, type WriteOptions, writePlanned, type WrittenDisk } from './write-planned.ts'
