import type { AttachedDisk, PointId, RunId, ScriptPair, SnapshotRef, StageFacts, StagesToCome, VmBefore, VmRef } from '../core/index.ts'

/** `files` and `disks`: exported files by name, and the base names of exported disks, whose pieces have further names. `ready`: all is there. */
export type MountDirectory = {
  readonly path: string
  readonly made: boolean
  readonly files: readonly string[]
  readonly disks: readonly string[]
  readonly ready: boolean
}

/** A file with a password and nothing else. `sha256` of what is in it, hex, proves that it is this one: of 256 random bits it tells nothing. */
export type PasswordFile = { readonly path: string; readonly sha256: string }

/**
 * Every kind of thing the agent may hold outside its process, with what is known before the effect (`args`) and what is needed to undo it
 * (`ref`). All of it is plain JSON in the journal. A new kind is one entry here and one releaser; nothing else knows the list.
 */
export interface ClaimKinds {
  /** One job per VM at a time, on this proxy. Found by its row. */
  vmLock: { args: { readonly vm: VmRef }; ref: { readonly vmKey: string } }
  /** A VMware snapshot; the claim id is in its name. */
  snapshot: { args: { readonly vm: VmRef; readonly quiesce: boolean; readonly before?: VmBefore | undefined }; ref: SnapshotRef }
  /**
   * A pre-freeze script that ran in the guest; released by the post-thaw script, with `argument`. Found by the file that the guest's shell made for its
   * output, which has the claim id in its name.
   */
  guestScript: {
    args: ScriptPair
    ref: { readonly argument: 'thaw' | 'freezeFail' }
  }
  /**
   * Programs of the proxy that come whatever a run comes to, from before their counterparts begin. Released by running them, with what is known by then (`ref`); the
   * claim id is in the environment of all of them.
   */
  stagePrograms: { args: StagesToCome; ref: StageFacts }
  /** An NFC lease that sends a snapshot's disks; it stands on the snapshot. */
  exportLease: { args: { readonly vm: VmRef; readonly snapshot: string }; ref: { readonly lease: string } }
  /** The short snapshot taken and removed once so that newly enabled change tracking becomes active. Found like any snapshot of ours. */
  changeTrackingSnapshot: { args: { readonly vm: VmRef; readonly before?: VmBefore | undefined }; ref: SnapshotRef }
  /** A frozen disk attached to the proxy VM to be read, or an empty one to be written. */
  attachedDisk: { args: AttachedDisk; ref: { readonly key: number } }
  /**
   * A destination that a run's writers write to; what they leave in it, or among temporary files, when their process dies has the run's id in
   * its name.
   */
  repositoryWrite: {
    args: { readonly url: string; readonly run: RunId; readonly temporary?: string }
    ref: { readonly url: string; readonly run: RunId; readonly temporary?: string }
  }
  /** A repository being made, by the name of its first file. Kept once it is complete. */
  newRepository: { args: { readonly url: string; readonly key: string }; ref: { readonly url: string; readonly key: string } }
  /**
   * A key being added to a repository, by the name of its file, and the local file that its password is written to first. Released: a password whose key did not come to be goes;
   * a key that is there stays, with its password.
   */
  repositoryKey: {
    args: { readonly url: string; readonly key: string; readonly password?: PasswordFile | undefined }
    ref: { readonly url: string; readonly key: string; readonly password?: PasswordFile | undefined }
  }
  /** Lock files of ours in a repository, by name. A lock is written again under a new name every few minutes, and the claim follows it. */
  repositoryLock: {
    args: { readonly url: string; readonly names: readonly string[] }
    ref: { readonly url: string; readonly names: readonly string[] }
  }
  /** A restore point being removed. What is left of it when the process dies is in no list, and goes by its name. */
  pointRemoval: { args: { readonly url: string; readonly point: PointId }; ref: { readonly url: string; readonly point: PointId } }
  /** A local file or directory that is only worth keeping when the job succeeds. Path contains the claim id. */
  partialFile: { args: { readonly path: string }; ref: { readonly path: string } }
  /** A FUSE file system that the job's process serves; `vcb-` and the claim id are its source in the mount table. */
  fuseMount: { args: { readonly path: string }; ref: { readonly path: string } }
  /** A loop device over a file of a `fuseMount`, whose name holds that one's claim id. */
  loopDevice: { args: { readonly file: string }; ref: { readonly file: string; readonly number: number } }
  /** A guest's file system, or one more place of it. `source` is that of the mount table; `program` serves it where the kernel does not. */
  volumeMount: {
    args: { readonly path: string; readonly source: string; readonly program?: string | undefined }
    ref: { readonly path: string }
  }
  /**
   * The directory a lease is shown in: `.vcb` in it holds the claim id, and what is made there beside it is known by name. `made`: it was not there
   * before.
   */
  mountDirectory: {
    args: { readonly path: string; readonly made: boolean }
    ref: MountDirectory
  }
  /** A directory on a datastore made by a restore; everything in it is ours. `[ds] dir`. */
  datastoreDirectory: {
    args: { readonly vcenterUuid: string; readonly datacenter: string; readonly path: string }
    ref: { readonly datacenter: string; readonly path: string }
  }
  /**
   * A VM that a restored one is to take the place of. Released: the replacement is finished when the restored VM is the user's, undone when it
   * is gone.
   */
  replacedVm: {
    args: { readonly vcenterUuid: string; readonly moref: string; readonly name: string; readonly annotation: string }
    ref: { readonly moref: string }
  }
  /** A VM registered by a restore that has not succeeded yet; marked with the claim id in its annotation. */
  registeredVm: {
    args: { readonly vcenterUuid: string; readonly name: string; readonly vmPathName: string }
    ref: { readonly moref: string }
  }
}

export type ClaimKind = keyof ClaimKinds
export type ClaimArgs<K extends ClaimKind> = ClaimKinds[K]['args']
export type ClaimRef<K extends ClaimKind> = ClaimKinds[K]['ref']
