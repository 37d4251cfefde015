import type { Abortable, MoRef, VmConfig, VmRef } from '../core/index.ts'
import {
  DATASTORE_PATHS,
  parseDatastore,
  parseVmConfig,
  retrieveMany,
  retrieveOne,
  VM_PATHS,
  vmMoRef,
  type VimNode,
  type Vsphere,
} from '../vsphere/index.ts'

/** One VM as of now. NOT_FOUND; UNAVAILABLE when the host cannot read its configuration; AUTH when the user may not. */
export async function describeVm(vsphere: Vsphere, vm: VmRef, options?: Abortable): Promise<VmConfig> {
  const found = await retrieveOne(vsphere, vmMoRef(vm), VM_PATHS, { ...options, subject: vm.name })
  const { props } = found
  const datastores = await retrieveMany(vsphere, refs(props.get('datastore')), DATASTORE_PATHS, options)
  const host = props.get('runtime.host')?.asRef()
  const [hostProps] = host === undefined ? [] : await retrieveMany(vsphere, [host], ['name'], options)
  return parseVmConfig(found, {
    vcenterUuid: vm.vcenterUuid,
    path: vm.path,
    hostName: hostProps?.props.get('name')?.text ?? '',
    datastores: datastores.map(parseDatastore),
    networks: await networkNames(vsphere, refs(props.get('network')), options),
  })
}

const refs = (node: VimNode | undefined): readonly MoRef[] =>
  (node?.items() ?? []).map((item) => item.asRef()).filter((ref) => ref !== undefined)

/** Names by id; port groups and plain networks are different types and asked for apart. */
async function networkNames(vsphere: Vsphere, networks: readonly MoRef[], options?: Abortable): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>()
  for (const group of Map.groupBy(networks, ({ type }) => type).values()) {
    for (const { obj, props } of await retrieveMany(vsphere, group, ['name'], options))
      names.set(obj.value, props.get('name')?.text ?? obj.value)
  }
  return names
}
