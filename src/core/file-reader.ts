/** An account of this machine, beside the one vcb runs as, that may read what is shown to it. Numbers of passwd(5) and group(5). */
export type FileReader = {
  /** The owner of the files; undefined = they stay vcb's own, and the group alone reads. */
  readonly user: number | undefined
  /** The group of files and directories. */
  readonly group: number
  /** Whether every member of the group reads the files, too. Members can list the directories in any case. */
  readonly byGroup: boolean
}

/** Permissions of a file that a reader, if there is one, may read; `write` = 0o600 beside 0o400, as a socket needs it. */
export const readableMode = (reader: FileReader | undefined, { write = false }: { readonly write?: boolean } = {}): number =>
  (write ? 0o600 : 0o400) | (reader?.byGroup === true ? (write ? 0o060 : 0o040) : 0)
