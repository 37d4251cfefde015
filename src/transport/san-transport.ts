import { join, relative, sep } from 'node:path'
import { type Abortable, AgentError, type BlockSource, type Clock } from '../core/index.ts'
import { type DiskChain, localDiskFiles, openChain } from '../disk/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import { insideDatastore, resolveReference } from './datastore-path.ts'
import { datastoreWitness } from './datastore-witness.ts'
import { judged } from './judged.ts'
import { mapDatastores, type MountedDatastore, type MountSearch } from './mounted-datastores.ts'
import { proveMounted } from './prove-mounted.ts'
import { noting, steady } from './steady-files.ts'
import type { PresentDisk, SnapshotDisk, Transport } from './transport.ts'
import { hasFile, inClear, verifyDisk } from './verify-disk.ts'

export type SanOptions = Pick<MountSearch, 'mountInfoPath' | 'processes' | 'lookup'> & {
  /** Datastore name, or its uuid → directory where it is mounted; NFS exports and VMFS volumes mounted here are found without it. */
  readonly datastores: Readonly<Record<string, string>>
  readonly clock: Clock
  /** What the files are compared with; without it only what the snapshot left in the directory proves it. */
  readonly vsphere?: Vsphere | undefined
}

/**
 * Reads the frozen files straight from shared storage: an NFS export or a VMFS volume that the administrator mounted on the proxy.
 * Never writes; each directory is proven to be the datastore as it is now, and each chain to be the disk vSphere describes, before a byte is used.
 */
export function sanTransport(options: SanOptions): Transport {
  return {
    name: 'san',
    local: true,
    handles: hasFile,
    probe: (disk: SnapshotDisk, abortable?: Abortable) =>
      judged(disk, async () => {
        await using opened = await openVerified(disk, options, abortable)
        await prove(disk, opened, options, abortable)
        return opened.own.what
      }),
    foresee: (disk: PresentDisk, abortable?: Abortable) =>
      judged(disk, async () => {
        await using opened = await openVerified(disk, options, abortable)
        return `${opened.own.what}; that it is the datastore as it is now is proven once the snapshot is there`
      }),
    async open(disk: SnapshotDisk, abortable?: Abortable): Promise<BlockSource> {
      await using stack = new AsyncDisposableStack()
      const opened = stack.use(await openVerified(disk, options, abortable))
      await prove(disk, opened, options, abortable)
      stack.move()
      return steady(opened.chain, opened.sizes, options.clock)
    },
  }
}

type Opened = AsyncDisposable & {
  readonly chain: DiskChain
  readonly mounted: ReadonlyMap<string, MountedDatastore>
  /** Where the disk's own link lies. */
  readonly own: MountedDatastore
  readonly nameOf: (location: string) => string | undefined
  readonly sizes: ReadonlyMap<string, number>
}

const prove = (disk: SnapshotDisk, { chain, mounted, nameOf }: Opened, { clock, vsphere }: SanOptions, abortable?: Abortable) =>
  proveMounted(
    disk,
    { links: chain.links, nameOf, mounted, clock, witness: vsphere === undefined ? undefined : datastoreWitness(vsphere, disk.config) },
    abortable,
  )

async function openVerified({ disk, config }: PresentDisk, options: SanOptions, abortable?: Abortable): Promise<Opened> {
  const clear = inClear(config)
  if (!clear.ok) throw new AgentError('CONFIG', `${clear.reason}.`, { next: 'Read it over nbdssl.' })
  const { datastores, ...places } = options
  const mounted = await mapDatastores(config.datastores, { ...places, ...abortable, configured: datastores })
  const directoryOf = (name: string, what: string): MountedDatastore => {
    const found = mounted.get(name)
    if (found === undefined) {
      throw new AgentError('CONFIG', `Datastore ${name}${what} is neither mapped to a directory nor mounted here.`, {
        next: `Mount it and give --datastore "${name}=DIR".`,
      })
    }
    if (found.refusal !== undefined) throw new AgentError('CONFIG', `${found.refusal}.`, { subject: found.directory })
    return found
  }
  const own = directoryOf(insideDatastore(disk.fileName).datastore, '')
  const nameOf = (location: string): string | undefined => {
    for (const [name, { directory }] of mounted) {
      const path = relative(directory, location)
      if (path !== '' && !path.startsWith('..') && !path.startsWith(sep)) return `[${name}] ${path.split(sep).join('/')}`
    }
    return undefined
  }
  const sizes = new Map<string, number>()
  const files = localDiskFiles({
    roots: [...mounted.values()].filter(({ refusal }) => refusal === undefined).map(({ directory }) => directory),
    map: async (reference, from) => {
      const path = insideDatastore(resolveReference(reference, from === undefined ? undefined : nameOf(from), config.datastores))
      return join(directoryOf(path.datastore, `, which holds a parent of ${disk.label},`).directory, ...path.path.split('/'))
    },
  })
  const chain = await openChain(disk.fileName, noting(files, sizes), abortable)
  try {
    verifyDisk(chain, disk, nameOf)
  } catch (error) {
    await chain[Symbol.asyncDispose]()
    throw error
  }
  return { chain, mounted, own, nameOf, sizes, [Symbol.asyncDispose]: () => chain[Symbol.asyncDispose]() }
}
