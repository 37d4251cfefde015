import type { Abortable, MoRef } from '../core/index.ts'
import { retrieveAll } from './property-collector.ts'
import type { Vsphere } from './vsphere.ts'

export type HostRef = {
  readonly moref: MoRef
  readonly name: string
  readonly connected: boolean
  readonly maintenance: boolean
  /** The compute resource (cluster, or the host's own). */
  readonly compute: MoRef
  /** Datastores the host has mounted. */
  readonly datastores: readonly MoRef[]
}

const PATHS = ['name', 'parent', 'runtime.connectionState', 'runtime.inMaintenanceMode', 'datastore']

/** ESXi hosts below `container` (everything when absent). */
export async function listHosts(vsphere: Vsphere, container?: MoRef, options?: Abortable): Promise<readonly HostRef[]> {
  const hosts: HostRef[] = []
  for await (const { obj, props } of retrieveAll(vsphere, { type: 'HostSystem', paths: PATHS, container }, options)) {
    const compute = props.get('parent')?.asRef()
    if (compute === undefined) continue
    hosts.push({
      moref: obj,
      name: props.get('name')?.text ?? obj.value,
      connected: props.get('runtime.connectionState')?.text === 'connected',
      maintenance: props.get('runtime.inMaintenanceMode')?.asBoolean() ?? false,
      compute,
      datastores: (props.get('datastore')?.items() ?? []).map((item) => item.asRef()).filter((ref) => ref !== undefined),
    })
  }
  return hosts
}
