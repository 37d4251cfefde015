import type { Abortable, MoRef } from '../core/index.ts'
import { listDatastores, parseDatastorePath } from './datastore.ts'
import { parseDisks } from './device.ts'
import { retrieveMany, retrieveOne } from './property-collector.ts'
import type { Vsphere } from './vsphere.ts'

/**
 * Names of the VMs, `but` apart, that have the disk of a file attached, whether as its current file or below a redo log: who may hold it locked.
 * Reads every VM on the file's datastore, so only for a message about a lock that does not go. `path` may name descriptor or extent.
 */
export async function attachedTo(vsphere: Vsphere, path: string, but: MoRef, options?: Abortable): Promise<readonly string[]> {
  const { datastore } = parseDatastorePath(path)
  const wanted = stemOf(path)
  const names: string[] = []
  for (const store of (await listDatastores(vsphere, undefined, options)).filter((each) => each.name === datastore)) {
    const { props } = await retrieveOne(vsphere, { type: 'Datastore', value: store.moref }, ['vm'], options)
    const vms = (props.get('vm')?.items() ?? []).map((item) => item.asRef()).filter((ref) => ref !== undefined && ref.value !== but.value)
    for (const vm of await retrieveMany(vsphere, vms as MoRef[], ['name', 'config.hardware.device'], options)) {
      const disks = parseDisks(vm.props.get('config.hardware.device')?.items() ?? [])
      if (disks.some((disk) => [disk.fileName, ...disk.chain].some((file) => stemOf(file) === wanted)))
        names.push(vm.props.get('name')?.text ?? vm.obj.value)
    }
  }
  return names
}

/** `[ds] dir/x.vmdk` of any file of the disk: the redo logs' numbers stay, they are other files. */
const stemOf = (path: string): string => path.replace(/-(flat|delta|sesparse|rdm|rdmp|ctk)\.vmdk$/, '.vmdk')
