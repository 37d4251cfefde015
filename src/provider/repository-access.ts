import type { SshHost } from '../ssh/index.ts'
import type { SftpPlace } from './restic-place.ts'

/** How the servers of restic repositories are logged in to. Made by the composition root; secrets are read when they are first needed. */
export interface RepositoryAccess {
  /** Login and pinned key of an SFTP server. CONFIG, when it is used, where there is no way in. */
  sshHost(place: SftpPlace): SshHost
}
