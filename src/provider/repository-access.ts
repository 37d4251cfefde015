import type { RestLogin, S3BackendDeps, ServerTrust } from '../restic/index.ts'
import type { SshHost } from '../ssh/index.ts'
import type { RestPlace, SftpPlace } from './restic-place.ts'
import type { S3Place } from './s3-place.ts'

/** Of a bucket. `credentials` are asked for before each request. */
export type S3Access = Pick<S3BackendDeps, 'region' | 'lookup' | 'credentials' | 'ca' | 'storageClass' | 'objectLock'>

/** How the servers of restic repositories are logged in to. Made by the composition root; secrets are read when they are first needed. */
export interface RepositoryAccess {
  /** Login and pinned key of an SFTP server. CONFIG, when it is used, where there is no way in. */
  sshHost(place: SftpPlace): SshHost
  /** Of a REST server: undefined = it asks for no login. CONFIG. */
  restLogin(place: RestPlace): Promise<RestLogin | undefined>
  /** How the certificate of a REST server is known. CONFIG. */
  restTrust(place: RestPlace): Promise<ServerTrust>
  /** Key pair and settings of a bucket. CONFIG, when it is used, where there is no key pair. */
  s3(place: S3Place): S3Access
}
