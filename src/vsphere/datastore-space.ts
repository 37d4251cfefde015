import { type Abortable, AgentError, type DatastoreRef, type MoRef } from '../core/index.ts'
import { DATASTORE_PATHS, parseDatastore } from './datastore.ts'
import { retrieveMany, retrieveOne } from './property-collector.ts'
import { isFault } from './vim-fault.ts'
import type { Vsphere } from './vsphere.ts'

/**
 * Capacity and free space of datastores, by reference, after the server was asked to look again (`RefreshDatastore`; `summary` alone may be minutes
 * old). A server or a user that may not refresh gives what it knew. Called every few seconds while snapshots are open. NOT_FOUND, UNAVAILABLE.
 */
export async function datastoreSpace(
  vsphere: Vsphere,
  morefs: readonly string[],
  options?: Abortable,
): Promise<ReadonlyMap<string, DatastoreRef>> {
  const refs = morefs.map((value): MoRef => ({ type: 'Datastore', value }))
  for (const ref of refs) await refresh(vsphere, 'RefreshDatastore', ref, options)
  const found = (await retrieveMany(vsphere, refs, DATASTORE_PATHS, options)).map(parseDatastore)
  const missing = morefs.find((moref) => !found.some((store) => store.moref === moref))
  if (missing !== undefined) throw new AgentError('NOT_FOUND', `There is no datastore ${missing} at ${vsphere.host} any more.`)
  return new Map(found.map((store) => [store.moref, store]))
}

/** A file of a VM as `layoutEx` lists it. `name` is a datastore path, `size` bytes on the datastore. */
export type VmFile = { readonly name: string; readonly type: string; readonly size: number }

/** The VM's files now: disks, redo logs, change tracking, configuration. NOT_FOUND, UNAVAILABLE. */
export async function vmFiles(vsphere: Vsphere, vm: MoRef, options?: Abortable): Promise<readonly VmFile[]> {
  await refresh(vsphere, 'RefreshStorageInfo', vm, options)
  const { props } = await retrieveOne(vsphere, vm, ['layoutEx.file'], options)
  return (props.get('layoutEx.file')?.items() ?? []).map((file) => ({
    name: file.string('name') ?? '',
    type: file.string('type') ?? '',
    size: file.number('uniqueSize') ?? file.number('size') ?? 0,
  }))
}

/** Where the VM keeps snapshots (`config.files.snapshotDirectory`, `[ds] dir/`); undefined when the server does not say. */
export async function snapshotDirectory(vsphere: Vsphere, vm: MoRef, options?: Abortable): Promise<string | undefined> {
  const { props } = await retrieveOne(vsphere, vm, ['config.files.snapshotDirectory'], options)
  return props.get('config.files.snapshotDirectory')?.text
}

async function refresh(vsphere: Vsphere, method: string, ref: MoRef, options?: Abortable): Promise<void> {
  try {
    await vsphere.call(method, ref, {}, options)
  } catch (error) {
    if (!isFault(error, 'NoPermission', 'NotSupported', 'MethodNotFound', 'HostConfigFault', 'NotImplemented', 'InvalidRequest'))
      throw error
    vsphere.log.debug('the server does not look again', { host: vsphere.host, method, on: ref.value, error: String(error) })
  }
}
