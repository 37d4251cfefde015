/** A restic snapshot: one point in time. `tree` is the root directory's tree id. */
export type Snapshot = {
  /** RFC 3339; any precision up to nanoseconds. */
  readonly time: string
  readonly parent?: string | undefined
  readonly tree: string
  readonly paths: readonly string[]
  readonly hostname: string
  readonly username: string
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  readonly excludes?: readonly string[] | undefined
  readonly tags?: readonly string[] | undefined
  /** The snapshot this one was copied or re-tagged from. */
  readonly original?: string | undefined
  readonly programVersion?: string | undefined
}

/** A snapshot with the id of its file. */
export type StoredSnapshot = Snapshot & { readonly id: string }
