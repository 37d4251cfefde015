import { AgentError, type MoRef } from '../core/index.ts'
import { type DatastoreEntry, searchDatastore } from './datastore-search.ts'
import { retrieveOne } from './property-collector.ts'
import { runTask, type TaskOptions } from './task.ts'
import { typed } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

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
  const [found] = await searchDatastore(vsphere, browser, directory, { patterns: ['*'], below: false }, options)
  return found?.entries ?? []
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

/** DeleteDatastoreFile_Task: a file, or a directory with all in it; an abort leaves it to run. NOT_FOUND, CONFLICT (locked). */
export async function deleteDatastoreFile(vsphere: Vsphere, datacenter: MoRef, path: string, options?: TaskOptions): Promise<void> {
  await runTask(
    vsphere,
    'DeleteDatastoreFile_Task',
    vsphere.service('fileManager'),
    { name: path, datacenter },
    { ...options, leave: true },
  )
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
