import { AgentError, type MoRef } from '../core/index.ts'
import { retrieveOne } from './property-collector.ts'
import { runTask, type TaskOptions } from './task.ts'
import { data, typed } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** A file or directory in a datastore directory. `path` is its name there. */
export type DatastoreEntry = {
  readonly path: string
  /** Bytes; undefined for directories. */
  readonly size: number | undefined
  /** ISO 8601 */
  readonly modified: string | undefined
  readonly directory: boolean
}

/** Direct children of `[ds] dir`. A disk shows as its descriptor only, its extents are hidden. NOT_FOUND. */
export async function listDatastore(
  vsphere: Vsphere,
  datastore: MoRef,
  directory: string,
  options?: CallOptions,
): Promise<readonly DatastoreEntry[]> {
  const { props } = await retrieveOne(vsphere, datastore, ['browser'], options)
  const browser = props.get('browser')?.asRef()
  if (browser === undefined) throw new AgentError('UNAVAILABLE', `The datastore of ${directory} cannot be browsed.`, { subject: directory })
  const details = data({ fileType: true, fileSize: true, modification: true, fileOwner: false })
  const found = await runTask(
    vsphere,
    'SearchDatastore_Task',
    browser,
    { datastorePath: directory, searchSpec: data({ details, matchPattern: ['*'] }) },
    options,
  )
  return (found?.all('file') ?? []).map((file) => {
    const isDirectory = file.type === 'FolderFileInfo'
    return {
      path: file.string('path') ?? '',
      size: isDirectory ? undefined : file.number('fileSize'),
      modified: file.string('modification'),
      directory: isDirectory,
    }
  })
}

/** MakeDirectory with parents. One that exists: CONFLICT, or success when `existing` is set. */
export async function makeDirectory(
  vsphere: Vsphere,
  datacenter: MoRef,
  path: string,
  options?: CallOptions & { readonly existing?: boolean },
): Promise<void> {
  try {
    await vsphere.call('MakeDirectory', vsphere.service('fileManager'), { name: path, datacenter, createParentDirectories: true }, options)
  } catch (error) {
    if (options?.existing !== true || !isFault(error, 'FileAlreadyExists')) throw error
  }
}

/** DeleteDatastoreFile_Task: a file, or a directory with all in it. NOT_FOUND, CONFLICT (locked). */
export async function deleteDatastoreFile(vsphere: Vsphere, datacenter: MoRef, path: string, options?: TaskOptions): Promise<void> {
  await runTask(vsphere, 'DeleteDatastoreFile_Task', vsphere.service('fileManager'), { name: path, datacenter }, options)
}

export type NewDisk = {
  readonly diskType: 'thin' | 'preallocated' | 'eagerZeroedThick'
  readonly adapterType: 'lsiLogic' | 'busLogic' | 'ide'
  /** Bytes, a multiple of 1024. */
  readonly capacityBytes: number
}

/** CreateVirtualDisk_Task: descriptor and extent. The directory must exist. CONFLICT, CAPACITY, NOT_FOUND. */
export async function createVirtualDisk(
  vsphere: Vsphere,
  datacenter: MoRef,
  path: string,
  disk: NewDisk,
  options?: TaskOptions,
): Promise<void> {
  if (disk.capacityBytes <= 0 || disk.capacityBytes % 1024 !== 0) {
    throw new AgentError('USAGE', `A disk of ${disk.capacityBytes} bytes cannot be made: the size must be a multiple of 1024.`, {
      subject: path,
    })
  }
  const spec = typed('FileBackedVirtualDiskSpec', {
    diskType: disk.diskType,
    adapterType: disk.adapterType,
    capacityKb: disk.capacityBytes / 1024,
  })
  await runTask(vsphere, 'CreateVirtualDisk_Task', vsphere.service('virtualDiskManager'), { name: path, datacenter, spec }, options)
}

/** Deletes a disk's descriptor and extents. NOT_FOUND, CONFLICT (locked). */
export async function deleteVirtualDisk(vsphere: Vsphere, datacenter: MoRef, path: string, options?: TaskOptions): Promise<void> {
  await runTask(vsphere, 'DeleteVirtualDisk_Task', vsphere.service('virtualDiskManager'), { name: path, datacenter }, options)
}
