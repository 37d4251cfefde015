import { AgentError, type MoRef, type VmRef } from '../core/index.ts'
import {
  type CallOptions,
  findVms,
  listDatastore,
  listDatastores,
  parseDatastorePath,
  retrieveMany,
  vmMoRef,
  type Vsphere,
} from '../vsphere/index.ts'

/** A VM as it is now, whatever became of its name, folder, host or reference. */
export type PresentVm = {
  readonly moref: MoRef
  /** `connected`: what it says of its snapshots can be believed. */
  readonly connectionState: string
}

/**
 * The VM now: by the reference known, unless that is gone or another VM has it; then by instance uuid. Undefined only when it is provably gone:
 * not in the inventory, and its `.vmx` (where `vmPathName` tells where that was) is gone as well. CONFLICT when it is merely not registered,
 * because its snapshots wait in its files.
 */
export async function presentVm(
  vsphere: Vsphere,
  vm: VmRef,
  vmPathName: string | undefined,
  options?: CallOptions,
): Promise<PresentVm | undefined> {
  const paths = ['config.instanceUuid', 'runtime.connectionState']
  const [known] = await retrieveMany(vsphere, [vmMoRef(vm)], paths, options)
  const uuid = known?.props.get('config.instanceUuid')?.text
  // A VM whose configuration cannot be read now is still the same reference.
  if (known !== undefined && (uuid === undefined || vm.instanceUuid === '' || uuid === vm.instanceUuid)) {
    return { moref: known.obj, connectionState: known.props.get('runtime.connectionState')?.text ?? 'unknown' }
  }
  if (vm.instanceUuid !== '') {
    const [again] = await findVms(vsphere, { by: 'uuid', uuid: vm.instanceUuid, instance: true }, options)
    const [found] = again === undefined ? [] : await retrieveMany(vsphere, [again], paths, options)
    if (found !== undefined) return { moref: found.obj, connectionState: found.props.get('runtime.connectionState')?.text ?? 'unknown' }
  }
  if (vmPathName !== undefined && vmPathName !== '') await refuseFilesLeft(vsphere, vm, vmPathName, options)
  return undefined
}

async function refuseFilesLeft(vsphere: Vsphere, vm: VmRef, vmPathName: string, options?: CallOptions): Promise<void> {
  const { datastore, path } = parseDatastorePath(vmPathName)
  const directory = `[${datastore}] ${path.split('/').slice(0, -1).join('/')}`.trim()
  const file = path.split('/').at(-1)
  const stores = (await listDatastores(vsphere, undefined, options)).filter((each) => each.name === datastore)
  if (stores.length === 0 || stores.some((store) => !store.accessible)) {
    throw new AgentError(
      'CONFLICT',
      `${vm.name} is not registered at ${vsphere.host}, and the datastore ${datastore} of its files cannot be seen.`,
      {
        subject: vm.name,
        next: 'Bring the datastore back, or register the VM again; then run "vcb recover".',
      },
    )
  }
  for (const store of stores) {
    const entries = await entriesOf(vsphere, { type: 'Datastore', value: store.moref }, directory, options)
    if (!entries.some((entry) => entry.path === file)) continue
    throw new AgentError(
      'CONFLICT',
      `${vm.name} is not registered at ${vsphere.host} any more, but its files are still at ${vmPathName}.`,
      {
        subject: vm.name,
        next: 'Register the VM again, or delete its files; then run "vcb recover".',
      },
    )
  }
}

async function entriesOf(vsphere: Vsphere, datastore: MoRef, directory: string, options?: CallOptions) {
  try {
    return await listDatastore(vsphere, datastore, directory, options)
  } catch (error) {
    // No such directory: nothing of the VM is there.
    if (error instanceof AgentError && error.code === 'NOT_FOUND') return []
    throw error
  }
}
