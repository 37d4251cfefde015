import { realpath } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { type Abortable, AgentError, type BlockSource, fromErrno, isMissing, toAgentError, type Verdict } from '../core/index.ts'
import { type DiskChain, localDiskFiles, openChain } from '../disk/index.ts'
import { insideDatastore, resolveReference } from './datastore-path.ts'
import { mapDatastores } from './mounted-datastores.ts'
import type { SnapshotDisk, Transport } from './transport.ts'
import { hasFile, verifyDisk } from './verify-disk.ts'

export type SanOptions = {
  /** Datastore name → directory where it is mounted; NFS exports mounted here are found without it. */
  readonly datastores: Readonly<Record<string, string>>
  readonly mountInfoPath?: string | undefined
}

/**
 * Reads the frozen files straight from shared storage: an NFS export or a VMFS volume that the administrator mounted on the proxy.
 * Never writes; every chain is compared with what vSphere says of the disk before it is used.
 */
export function sanTransport(options: SanOptions): Transport {
  return {
    name: 'san',
    handles: hasFile,
    async probe(disk: SnapshotDisk, probeOptions?: Abortable): Promise<Verdict> {
      const handled = hasFile(disk.disk)
      if (!handled.ok) return handled
      try {
        const { chain, directory } = await openVerified(disk, options, probeOptions)
        await chain[Symbol.asyncDispose]()
        return { ok: true, note: `datastore files in ${directory}` }
      } catch (error) {
        const shown = toAgentError(error)
        if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
        return { ok: false, reason: shown.message }
      }
    },
    async open(disk: SnapshotDisk, openOptions?: Abortable): Promise<BlockSource> {
      return (await openVerified(disk, options, openOptions)).chain
    },
  }
}

async function openVerified(
  { disk, config }: SnapshotDisk,
  options: SanOptions,
  abortable?: Abortable,
): Promise<{ chain: DiskChain; directory: string }> {
  const directories = new Map<string, string>()
  for (const [name, directory] of await mapDatastores(config.datastores, options.datastores, options.mountInfoPath)) {
    directories.set(name, await existing(name, directory))
  }
  const own = insideDatastore(disk.fileName).datastore
  const directory = directories.get(own)
  if (directory === undefined) {
    throw new AgentError('CONFIG', `Datastore ${own} is neither mapped to a directory nor mounted here.`, {
      next: `Mount it and give --datastore "${own}=DIR".`,
    })
  }
  const nameOf = (location: string): string | undefined => {
    for (const [name, base] of directories) {
      const path = relative(base, location)
      if (path !== '' && !path.startsWith('..') && !path.startsWith(sep)) return `[${name}] ${path.split(sep).join('/')}`
    }
    return undefined
  }
  const files = localDiskFiles({
    roots: [...directories.values()],
    map: async (reference, from) => {
      const path = insideDatastore(resolveReference(reference, from === undefined ? undefined : nameOf(from), config.datastores))
      const base = directories.get(path.datastore)
      if (base === undefined) {
        throw new AgentError(
          'CONFIG',
          `Datastore ${path.datastore}, which holds a parent of ${disk.label}, is neither mapped nor mounted here.`,
        )
      }
      return join(base, ...path.path.split('/'))
    },
  })
  const chain = await openChain(disk.fileName, files, abortable)
  try {
    verifyDisk(chain, disk, nameOf)
    return { chain, directory }
  } catch (error) {
    await chain[Symbol.asyncDispose]()
    throw error
  }
}

/** Links in the mapped directory's own path are the administrator's; below it none is followed out (the disk room's rule). */
async function existing(name: string, directory: string): Promise<string> {
  try {
    return await realpath(directory)
  } catch (error) {
    if (isMissing(error))
      throw new AgentError('CONFIG', `Datastore ${name} is mapped to ${directory}, which does not exist.`, {
        subject: directory,
        cause: error,
      })
    throw fromErrno(error, directory) ?? error
  }
}
