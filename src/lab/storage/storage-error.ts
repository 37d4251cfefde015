import { AgentError, type ErrorCode } from '../../core/index.ts'

/** Why storage refused; the model turns it into the vim25 fault of the same or the noted name. */
export type StorageFailure =
  | 'NoDiskSpace'
  | 'FileNotFound'
  | 'FileAlreadyExists'
  | 'FileLocked'
  /** `[ds] path` that cannot be parsed, or leaves the datastore: InvalidDatastorePath. */
  | 'InvalidDatastorePath'
  /** Not a disk, damaged, chain mismatch: FileFault / InvalidDiskFormat. */
  | 'InvalidDisk'
  /** Deeper than 32 links: TooManySnapshotLevels. */
  | 'TooManyLinks'
  /** Offset or length outside the disk, or not whole sectors: InvalidArgument(startOffset). */
  | 'InvalidOffset'
  /** vim.hostd.vmsvc.cbt.noTrack: tracking is off. */
  | 'NoTrack'
  /** vim.hostd.vmsvc.cbt.noEpoch: no current epoch for "*". */
  | 'NoEpoch'
  /** A changeId of another life of this disk, or later than the snapshot: InvalidArgument(changeId). */
  | 'UnknownChangeId'
  /** vim.hostd.vmsvc.cbt.cannotGetChanges: the tracking file is damaged. */
  | 'CannotGetChanges'
  /** An uploaded streamOptimized disk that is not whole or not one. */
  | 'BadStream'

const CODES: Readonly<Record<StorageFailure, ErrorCode>> = {
  NoDiskSpace: 'CAPACITY',
  FileNotFound: 'NOT_FOUND',
  FileAlreadyExists: 'CONFLICT',
  FileLocked: 'CONFLICT',
  InvalidDatastorePath: 'USAGE',
  InvalidDisk: 'INTEGRITY',
  TooManyLinks: 'CONFLICT',
  InvalidOffset: 'USAGE',
  NoTrack: 'CONFLICT',
  NoEpoch: 'CONFLICT',
  UnknownChangeId: 'USAGE',
  CannotGetChanges: 'INTEGRITY',
  BadStream: 'INTEGRITY',
}

/** What storage of the lab refuses, with the host's own name for it. `subject` is a datastore path or a file name. */
export class LabStorageError extends AgentError {
  readonly failure: StorageFailure

  constructor(failure: StorageFailure, message: string, subject: string, cause?: unknown) {
    super(CODES[failure], message, { subject, cause })
    this.name = 'LabStorageError'
    this.failure = failure
  }
}

/** The storage error for an errno of the local file system; anything else as it is. */
export function storageError(error: unknown, subject: string): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new LabStorageError('FileNotFound', `File ${subject} was not found.`, subject, error)
    case 'EEXIST':
      return new LabStorageError('FileAlreadyExists', `File ${subject} already exists.`, subject, error)
    case 'ENOSPC':
    case 'EDQUOT':
      return new LabStorageError('NoDiskSpace', `There is no space left to write ${subject}.`, subject, error)
    default:
      return error
  }
}

/** Runs `body` with errno errors translated. */
export function translated<T>(subject: string, body: () => T): T {
  try {
    return body()
  } catch (error) {
    throw storageError(error, subject)
  }
}
