import type { Abortable } from '../core/index.ts'
import type { Vsphere } from '../vsphere/index.ts'
import { scanVms } from './vm-scan.ts'

/** Where a VM lies, as morefs. */
export type VmPlace = { readonly host: string | undefined; readonly datastores: readonly string[] }

/** Of every VM the user can see, by its moref. A few calls, whatever the number. */
export async function locateVms(vsphere: Vsphere, options?: Abortable): Promise<ReadonlyMap<string, VmPlace>> {
  const places = new Map<string, VmPlace>()
  for await (const { vm, props: object } of scanVms(vsphere, ['runtime.host', 'datastore'], options)) {
    const datastores = object.props.get('datastore')?.items() ?? []
    places.set(vm.moref, {
      host: object.props.get('runtime.host')?.asRef()?.value,
      datastores: datastores.map((item) => item.asRef()?.value).filter((value) => value !== undefined),
    })
  }
  return places
}
