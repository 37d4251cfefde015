import { readdirSync } from 'node:fs'
import { SECTOR } from '../../core/index.ts'
import { besidePath, directoryOf } from './datastore-path.ts'
import type { Datastore } from './datastore.ts'
import { type Descriptor, NO_PARENT, readDescriptor } from './descriptor.ts'
import { LabStorageError, translated } from './storage-error.ts'

export type DiskInfo = {
  /** Descriptor, datastore-relative. */
  readonly path: string
  readonly createType: string
  readonly capacityBytes: number
  readonly thin: boolean
  readonly adapterType: string
  /** 8 hex digits. */
  readonly cid: string
  readonly parentCid: string
  /** Datastore-relative path of the parent descriptor. */
  readonly parent?: string | undefined
  /** `60 00 C2 9a …-…`; of a redo log: its base's. */
  readonly uuid: string
  /** Files of this link besides the descriptor, datastore-relative; without the change tracking file. */
  readonly extents: readonly string[]
  readonly changeTrackPath?: string | undefined
  readonly backing: 'flat' | 'sparse' | 'seSparse' | 'rdmVirtual' | 'rdmPhysical'
}

/** Deepest chain a host takes. */
export const MAX_LINKS = 32

const BACKINGS: Readonly<Record<string, DiskInfo['backing']>> = {
  vmfs: 'flat',
  monolithicflat: 'flat',
  vmfssparse: 'sparse',
  sesparse: 'seSparse',
  vmfsrawdevicemap: 'rdmVirtual',
  vmfspassthroughrawdevicemap: 'rdmPhysical',
}

/** Reads one descriptor. FileNotFound, InvalidDisk. */
export function diskInfo(datastore: Datastore, path: string): DiskInfo {
  return infoOf(datastore, path, readDescriptor(datastore, path))
}

export function infoOf(datastore: Datastore, path: string, descriptor: Descriptor): DiskInfo {
  const subject = datastore.datastorePath(path)
  const backing = BACKINGS[descriptor.createType.toLowerCase()]
  const [extent, ...more] = descriptor.extents
  if (backing === undefined || extent === undefined || more.length > 0 || /[/\\]/.test(extent.file) || extent.file === '') {
    const message = `${subject} is of a kind (${descriptor.createType}) or has extents the host cannot open.`
    throw new LabStorageError('InvalidDisk', message, subject)
  }
  const hasParent = descriptor.parentCid !== NO_PARENT
  if (hasParent !== (descriptor.parentHint !== undefined) || hasParent !== (backing === 'sparse' || backing === 'seSparse')) {
    throw new LabStorageError('InvalidDisk', `${subject} does not say which disk it continues.`, subject)
  }
  return {
    path,
    createType: descriptor.createType,
    capacityBytes: extent.sectors * SECTOR,
    thin: descriptor.ddb.get('ddb.thinProvisioned') === '1' || backing === 'sparse' || backing === 'seSparse',
    adapterType: descriptor.ddb.get('ddb.adapterType') ?? 'lsilogic',
    cid: descriptor.cid,
    parentCid: descriptor.parentCid,
    parent: descriptor.parentHint === undefined ? undefined : parentPath(datastore, path, descriptor.parentHint),
    uuid: descriptor.ddb.get('ddb.uuid') ?? '',
    extents: [besidePath(path, extent.file)],
    changeTrackPath: descriptor.changeTrackPath === undefined ? undefined : besidePath(path, descriptor.changeTrackPath),
    backing,
  }
}

function parentPath(datastore: Datastore, path: string, hint: string): string {
  if (!hint.startsWith('/')) return besidePath(path, hint)
  const volume = `/vmfs/volumes/${datastore.name}/`
  if (hint.startsWith(volume)) return hint.slice(volume.length)
  const subject = datastore.datastorePath(path)
  throw new LabStorageError('InvalidDisk', `The parent of ${subject} is on another datastore (${hint}).`, subject)
}

/**
 * Descriptors from `path` down to the base. InvalidDisk when a link is missing, the chain loops or a CID does not match; a commit that was
 * killed at its last step (parent already has the link's CID) is no mismatch.
 */
export function diskChain(datastore: Datastore, path: string): readonly DiskInfo[] {
  const chain: DiskInfo[] = []
  let next: string | undefined = path
  while (next !== undefined) {
    const subject = datastore.datastorePath(next)
    const child = chain.at(-1)
    if (chain.some((link) => link.path === next) || chain.length > MAX_LINKS) {
      throw new LabStorageError('InvalidDisk', `The chain of ${subject} has no end.`, subject)
    }
    const info = diskInfo(datastore, next)
    if (child !== undefined && child.parentCid !== info.cid && child.cid !== info.cid) {
      const message = `The content of ${subject} changed after ${child.path} was made over it (CID ${info.cid}, expected ${child.parentCid}).`
      throw new LabStorageError('InvalidDisk', message, subject)
    }
    chain.push(info)
    next = info.parent
  }
  return chain
}

/** True for file names of descriptors, not of extents or change tracking files. */
export const isDescriptorName = (name: string): boolean =>
  name.endsWith('.vmdk') && !/-(flat|delta|sesparse|ctk|rdm|rdmp)\.vmdk$/.test(name)

/** Paths of descriptors in the same directory whose parent is `path`. */
export function childrenOf(datastore: Datastore, path: string): readonly string[] {
  const directory = directoryOf(path)
  const names = translated(datastore.datastorePath(directory), () => readdirSync(datastore.path(directory)))
  const children: string[] = []
  for (const name of names.filter(isDescriptorName).toSorted()) {
    const candidate = besidePath(path, name)
    if (candidate === path) continue
    try {
      if (diskInfo(datastore, candidate).parent === path) children.push(candidate)
    } catch (error) {
      // Rubbish somebody uploaded is nobody's child.
      if (!(error instanceof LabStorageError)) throw error
    }
  }
  return children
}
