import type { RestLogin, ServerTrust } from '../restic/index.ts'
import type { SshHost } from '../ssh/index.ts'
import type { RestPlace, SftpPlace } from './restic-place.ts'

/** How the servers of restic repositories are logged in to. Made by the composition root; secrets are read when they are first needed. */
export interface RepositoryAccess {
  /** Login and pinned key of an SFTP server. CONFIG, when it is used, where there is no way in. */
  sshHost(place: SftpPlace): SshHost
  /** Of a REST server: undefined = it asks for no login. CONFIG. */
  restLogin(place: RestPlace): Promise<RestLogin | undefined>
  /** How the certificate of a REST server is known. CONFIG. */
  restTrust(place: RestPlace): Promise<ServerTrust>
}
