import type { Abortable, MoRef } from '../core/index.ts'
import { decodeName, retrieveMany, type Vsphere } from '../vsphere/index.ts'
import { scanVms } from './vm-scan.ts'

/** Where a VM lies, as morefs. `datastores`: of its configuration, its disks and their redo logs; not of the image in a CD drive. */
export type VmPlace = { readonly host: string | undefined; readonly datastores: readonly string[] }

/** Of every VM the user can see, by its moref. A few calls, whatever the number. */
export async function locateVms(vsphere: Vsphere, options?: Abortable): Promise<ReadonlyMap<string, VmPlace>> {
  const places = new Map<string, VmPlace>()
  const several = new Map<string, { readonly vm: MoRef; readonly host: string | undefined; readonly datastores: readonly MoRef[] }>()
  for await (const { vm, props: object } of scanVms(vsphere, ['runtime.host', 'datastore'], options)) {
    const host = object.props.get('runtime.host')?.asRef()?.value
    const datastores = (object.props.get('datastore')?.items() ?? []).map((item) => item.asRef()).filter((ref) => ref !== undefined)
    places.set(vm.moref, { host, datastores: datastores.map(({ value }) => value) })
    if (datastores.length > 1) several.set(vm.moref, { vm: object.obj, host, datastores })
  }
  const names = await namesOf(
    vsphere,
    several.values().flatMap(({ datastores }) => datastores),
    options,
  )
  const files = await retrieveMany(
    vsphere,
    several
      .values()
      .map(({ vm }) => vm)
      .toArray(),
    ['layoutEx.file'],
    options,
  )
  for (const { obj, props } of files) {
    const { host, datastores = [] } = several.get(obj.value) ?? {}
    // vSphere counts the image of a CD drive as well, which lies where those of all other VMs do.
    const used = new Set((props.get('layoutEx.file')?.items() ?? []).map((file) => /^\[([^\]]+)\]/u.exec(file.string('name') ?? '')?.[1]))
    const own = datastores.filter(({ value }) => used.has(names.get(value)))
    // Of a VM that is not reachable the files are not known.
    if (own.length > 0) places.set(obj.value, { host, datastores: own.map(({ value }) => value) })
  }
  return places
}

async function namesOf(vsphere: Vsphere, refs: Iterable<MoRef>, options?: Abortable): Promise<ReadonlyMap<string, string>> {
  const each = new Map([...refs].map((ref) => [ref.value, ref]))
  const found = await retrieveMany(vsphere, [...each.values()], ['name'], options)
  return new Map(found.map(({ obj, props }) => [obj.value, decodeName(props.get('name')?.text ?? '')]))
}
