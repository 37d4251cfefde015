import type { VmConfig } from '../core/index.ts'
import type { ByteSource, DiskFiles } from '../disk/index.ts'
import { notConfigured, type RemoteFile, type RemoteFiles, type SshHost, type SshHosts } from '../ssh/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import { insideDatastore, resolveReference } from './datastore-path.ts'

export type SshOptions = {
  readonly hosts: SshHosts
  /** The server of the API: of a standalone host, whose shell may be configured under this name too. */
  readonly endpoint: string
  /** Asked before a disk is written to. */
  readonly vsphere?: Vsphere | undefined
}

/** The shell of the host that runs the VM; CONFIG when none is configured. */
export function hostOf({ hosts, endpoint }: SshOptions, config: VmConfig): SshHost {
  const host = hosts.find(config.host.name) ?? hosts.find(endpoint)
  if (host !== undefined) return host
  throw notConfigured(config.host.name)
}

/** The files of a disk chain on their host; locations are datastore paths. */
export function remoteDiskFiles(files: RemoteFiles, config: VmConfig): DiskFiles {
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
