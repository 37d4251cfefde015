import { type Abortable, AgentError, type BlockSource, toAgentError, type Verdict, type VmConfig } from '../core/index.ts'
import { type ByteSource, type DiskChain, type DiskFiles, openChain } from '../disk/index.ts'
import { notConfigured, openRemoteFiles, type RemoteFile, type RemoteFiles, type SshHost, type SshHosts } from '../ssh/index.ts'
import { insideDatastore, resolveReference } from './datastore-path.ts'
import type { PresentDisk, Transport } from './transport.ts'
import { hasFile, inClear, verifyDisk } from './verify-disk.ts'

export type SshOptions = {
  readonly hosts: SshHosts
  /** The server of the API: of a standalone host, whose shell may be configured under this name too. */
  readonly endpoint: string
}

/**
 * Reads the frozen files through the shell of the host that runs the VM. For hosts whose API only shows, as with the free licence, and for files that
 * only the host itself can read. Zeros stay at home where the host has python3. Connects only to hosts that are configured.
 */
export function sshTransport(options: SshOptions): Transport {
  const openVerified = async (disk: PresentDisk, abort?: Abortable): Promise<{ source: BlockSource; how: RemoteFiles['how'] }> => {
    const clear = inClear(disk.config)
    if (!clear.ok) throw new AgentError('CONFIG', `${clear.reason}.`, { next: 'Read it over nbdssl.' })
    await using stack = new AsyncDisposableStack()
    const connection = await options.hosts.connect(hostOf(options, disk.config).name, abort)
    const files = stack.use(await openRemoteFiles(connection, abort))
    const chain = stack.use(await openChain(disk.disk.fileName, remoteDiskFiles(files, disk.config), abort))
    verifyDisk(chain, disk.disk, (location) => location)
    const held = stack.move()
    return { source: owned(chain, held), how: files.how }
  }
  const probe = async (disk: PresentDisk, abort?: Abortable): Promise<Verdict> => {
    const handled = hasFile(disk.disk)
    if (!handled.ok) return handled
    try {
      const host = hostOf(options, disk.config)
      const { source, how } = await openVerified(disk, abort)
      await source[Symbol.asyncDispose]()
      const by = how.program === 'python3' ? 'python3' : `dd, because ${how.reason.replace(/\.$/, '')}`
      return { ok: true, note: `files of ${host.name} through its shell, read by ${by}` }
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      if (shown.code === 'CONFLICT' && !('snapshot' in disk))
        return {
          ok: true,
          note: 'the host holds the file locked while the VM writes to it; whether it can be read is seen with the snapshot',
        }
      return { ok: false, reason: shown.message }
    }
  }
  return {
    name: 'ssh',
    handles: hasFile,
    probe,
    foresee: probe,
    open: async (disk, abort) => (await openVerified(disk, abort)).source,
  }
}

/** The shell of the host that runs the VM; CONFIG when none is configured. */
export function hostOf({ hosts, endpoint }: SshOptions, config: VmConfig): SshHost {
  const host = hosts.find(config.host.name) ?? hosts.find(endpoint)
  if (host !== undefined) return host
  throw notConfigured(config.host.name)
}

/** The chain as it is, closed together with what it is read through. */
const owned = (chain: DiskChain, held: AsyncDisposable): BlockSource => ({
  size: chain.size,
  read: (offset, into, options) => chain.read(offset, into, options),
  extents: (range, options) => chain.extents(range, options),
  [Symbol.asyncDispose]: async () => held[Symbol.asyncDispose](),
})

/** The files of a disk chain on their host; locations are datastore paths. */
function remoteDiskFiles(files: RemoteFiles, config: VmConfig): DiskFiles {
  return {
    resolve: async (reference, from) => resolveReference(reference, from, config.datastores),
    open: async (location, options) => bytesOf(await files.open(hostPath(location, config), options), location),
  }
}

/** `/vmfs/volumes/UUID/dir/file` of a datastore path: by the volume's own name, which nobody renames. */
export function hostPath(location: string, config: VmConfig): string {
  const { datastore, path } = insideDatastore(location)
  const found = config.datastores.find((each) => each.name === datastore)
  const volume = /\/vmfs\/volumes\/([^/]+)\/?$/.exec(found?.url ?? '')?.[1] ?? datastore
  return `/vmfs/volumes/${volume}/${path}`
}

const bytesOf = (file: RemoteFile, location: string): ByteSource => ({
  name: location,
  size: file.size,
  read: (offset, into, options) => file.read(offset, into, options),
  ...(file.holes === undefined ? {} : { dataExtents: file.holes.bind(file) }),
  [Symbol.asyncDispose]: async () => undefined,
})
