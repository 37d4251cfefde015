import type { Writable } from 'node:stream'
import { type Abortable, AgentError, type Clock, type Log, type RunId, type Secret, type VmConfig } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { Compression, OpenLockEnds } from '../restic/index.ts'
import type { BackupProvider, NewRepository } from './provider.ts'
import { openBorg } from './borg-product.ts'
import { openDirProvider, openVcbExports } from './dir-provider.ts'
import { openCommandProvider } from './command-provider.ts'
import { parseProviderUrl } from './provider-url.ts'
import type { RepositoryAccess } from './repository-access.ts'
import { openResticBinary } from './restic-binary-product.ts'
import { openResticProvider } from './restic-provider.ts'
import { StreamProvider } from './stream-provider.ts'
import { openTape } from './tape-product.ts'
import { openTarProvider } from './tar-provider.ts'

export type OpenProviderOptions = Abortable & {
  readonly clock: Clock
  readonly log: Log
  /** Cryptographically strong random bytes. */
  readonly random: (size: number) => Uint8Array
  /** This proxy and user, as locks and keys of a repository name them. */
  readonly hostname: string
  readonly username: string
  readonly pid: number
  /** Of a restic repository; where a product asks for one, instead of what its own environment says. The other kinds have none. */
  readonly password?: Secret | undefined
  /** How servers of restic repositories are logged in to; absent where there are only directories. */
  readonly access?: RepositoryAccess | undefined
  /** Marks what this process half writes, so that the claim `repositoryWrite` finds it when the process is gone. */
  readonly run?: RunId | undefined
  /** Told of a restic repository that `init` makes before any file of it is there; `removeNewRepository` undoes it while it is not complete. */
  readonly recordNew?: ((made: NewRepository) => Promise<void>) | undefined
  /** Make the repository or directory when there is none. Without it a missing one is NOT_FOUND. */
  readonly init?: boolean | undefined
  /** `dir:` and `vcb:` only; default `flat`. */
  readonly exportFormat?: ExportFormat | undefined
  /** `vcb:` only: the name of a VM's export in the directory; the VM's name when absent. */
  readonly exportName?: ((config: VmConfig) => string) | undefined
  /** Of programs that are started (`command:`, `borg:`, `restic-binary:`): what they get, but for `VCB_` variables. */
  readonly environment?: Readonly<NodeJS.ProcessEnv> | undefined
  /** Where `tar:-` goes. */
  readonly stdout?: Writable | undefined
  /** Where the indexes of large restic repositories are kept sorted between runs; in memory where absent. */
  readonly cacheDirectory?: string | undefined
  /** Opens what is remembered there of the locks of a repository's files. */
  readonly lockEnds?: OpenLockEnds | undefined
  /** Worker threads of the restic writer; default: one a core, at most 4. */
  readonly workers?: number | undefined
  /** Start the worker threads of a restic repository while its key is derived: for who is sure to store or read disks. */
  readonly startThreads?: boolean | undefined
  /** How the restic writer compresses, default `auto`. */
  readonly compression?: Compression | undefined
}

export type { ExportFormat }

/**
 * Opens a destination by its URL: a plain path or `restic:PATH` (restic repository), `sftp:USER@HOST:PATH` (the same on a server), `tar:PATH` (archives in a directory, or a tape
 * device), `tar:-` (one archive to standard output), `dir:PATH` (VMX and VMDK per point), `vcb:PATH`
 * (the same with VCB's names, one directory a VM; for the VCB commands), `command:PROGRAM ARGUMENT...` (one archive to a program's standard input),
 * `borg:REPOSITORY` (archives in a Borg repository, through borg), `restic-binary:REPOSITORY` (in a restic repository, through restic), `tape:PATH` (a directory that stands in for a tape).
 * Errors: NOT_FOUND (nothing there, and no `init`), AUTH (password, login), UNAVAILABLE (server), CONFIG (no password, unknown scheme, no access), CONFLICT.
 */
export async function openProvider(url: string, options: OpenProviderOptions): Promise<BackupProvider> {
  const { scheme, path } = parseProviderUrl(url)
  if (scheme === 'tar') return openTarProvider(path, options)
  if (scheme === 'dir') return openDirProvider(path, options)
  if (scheme === 'command') return openCommandProvider(path, options.environment ?? {}, options)
  if (scheme === 'borg') return new StreamProvider(await openBorg(path, { ...options, environment: options.environment ?? {} }, options))
  if (scheme === 'restic-binary') {
    return new StreamProvider(await openResticBinary(path, { ...options, environment: options.environment ?? {} }, options))
  }
  if (scheme === 'tape') return new StreamProvider(openTape(path))
  if (scheme === 'vcb') return openVcbExports(path, options)
  const { password } = options
  if (password === undefined) {
    throw new AgentError('CONFIG', `The repository ${url} needs a password.`, {
      subject: url,
      next: 'Give it with repository.passwordFile in vcb.yaml, --password-file or VCB_REPO_PASSWORD.',
    })
  }
  const { access } = options
  return openResticProvider(path, { ...options, password, place: access && { ...options, access } })
}
