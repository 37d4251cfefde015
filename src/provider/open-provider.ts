import type { Writable } from 'node:stream'
import { type Abortable, AgentError, type Clock, type Log, type RunId, type Secret, type VmConfig } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { Compression, OpenLockEnds } from '../restic/index.ts'
import { openBorg } from './borg-product.ts'
import type { BackupProvider, NewRepository } from './provider.ts'
import { openResticBinary } from './restic-binary-product.ts'
import type { StreamProduct } from './stream-product.ts'
import { parseProviderUrl } from './provider-url.ts'
import type { RepositoryAccess } from './repository-access.ts'

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
 * Only the kind that is asked for is loaded. Errors: NOT_FOUND (nothing there, and no `init`), AUTH (password, login), UNAVAILABLE (server), CONFIG (no password, unknown scheme, no access), CONFLICT.
 */
export async function openProvider(url: string, options: OpenProviderOptions): Promise<BackupProvider> {
  const { scheme, path } = parseProviderUrl(url)
  const withProgram = { ...options, environment: options.environment ?? {} }
  switch (scheme) {
    case 'tar':
      return (await import('./tar-provider.ts')).openTarProvider(path, options)
    case 'dir':
      return (await import('./dir-provider.ts')).openDirProvider(path, options)
    case 'vcb':
      return (await import('./dir-provider.ts')).openVcbExports(path, options)
    case 'command':
      return (await import('./command-provider.ts')).openCommandProvider(path, withProgram.environment, options)
    case 'borg':
      return streamTo(openBorg(path, withProgram, options))
    case 'restic-binary':
      return streamTo(openResticBinary(path, withProgram, options))
    case 'tape':
      return streamTo((await import('./tape-product.ts')).openTape(path))
    default:
      return openRestic(url, path, options)
  }
}

async function streamTo(product: StreamProduct | Promise<StreamProduct>): Promise<BackupProvider> {
  const { StreamProvider } = await import('./stream-provider.ts')
  return new StreamProvider(await product)
}

async function openRestic(url: string, path: string, options: OpenProviderOptions): Promise<BackupProvider> {
  const { password } = options
  if (password === undefined) {
    throw new AgentError('CONFIG', `The repository ${url} needs a password.`, {
      subject: url,
      next: 'Give it with repository.passwordFile in vcb.yaml, --password-file or VCB_REPO_PASSWORD.',
    })
  }
  const { access } = options
  const { openResticProvider } = await import('./restic-provider.ts')
  return openResticProvider(path, { ...options, password, place: access && { ...options, access } })
}
