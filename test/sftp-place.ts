import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, type Log, type RunId, silentLog, systemClock } from '../src/core/index.ts'
import { type RepositoryPlace, sftpBackend } from '../src/restic/index.ts'
import { SftpSession, type SshHost } from '../src/ssh/index.ts'
import type { OpenSshd } from './openssh.ts'

/** A line of sshd's configuration that offers SFTP; `arguments` as of sftp-server(8). */
export const sftpSubsystem = (options = ''): string => `Subsystem sftp internal-sftp ${options}`.trim()

export type SftpPlaceOptions = {
  readonly name?: string
  readonly run?: RunId
  readonly host?: Partial<SshHost>
  readonly clock?: Clock
  readonly log?: Log
  readonly onSession?: (session: SftpSession) => void
}

/** A repository in a directory of its own of a private OpenSSH server, as our backend reaches it. */
export function sftpPlace(sshd: OpenSshd, options: SftpPlaceOptions = {}): RepositoryPlace & { readonly path: string } {
  const { clock = systemClock, log = silentLog } = options
  const path = join(sshd.directory, options.name ?? `repositories-${randomBytes(4).toString('hex')}`, 'repo')
  mkdirSync(join(path, '..'), { recursive: true })
  const backend = sftpBackend({
    clock,
    log,
    random: randomBytes,
    run: options.run,
    url: `sftp://${sshd.user}@127.0.0.1:${sshd.port}/${path}`,
    root: path,
    connect: async (each) => {
      const session = await SftpSession.open(sshd.host(options.host), { clock, log }, each)
      options.onSession?.(session)
      return session
    },
  })
  return Object.assign(backend, { path })
}

/** How stock restic reaches the same: its ssh with our key and the server's pinned. */
export const resticSftpOption = (sshd: OpenSshd): string =>
  `sftp.command=ssh -p ${sshd.port} -i ${sshd.keyFile} -o UserKnownHostsFile=${sshd.knownHosts} -o IdentitiesOnly=yes ${sshd.user}@127.0.0.1 -s sftp`
