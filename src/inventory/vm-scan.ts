import type { Abortable, VmRef } from '../core/index.ts'
import { decodeName, type InventoryTree, loadInventoryTree, type ObjectProps, retrieveAll, type Vsphere } from '../vsphere/index.ts'

/** A VM of the inventory with what selection compares. */
export type ScannedVm = {
  readonly vm: VmRef
  readonly powerState: string
  readonly isTemplate: boolean
  readonly connectionState: string
  readonly props: ObjectProps
}

/** Paths that `scanVms` always reads; `more` are read with them. */
const PATHS = [
  'name',
  'parent',
  'parentVApp',
  'config.uuid',
  'config.instanceUuid',
  'config.template',
  'runtime.powerState',
  'runtime.connectionState',
] as const

/** Every VM and template the user can see, page by page. */
export async function* scanVms(vsphere: Vsphere, more: readonly string[] = [], options?: Abortable): AsyncGenerator<ScannedVm> {
  const tree = await loadInventoryTree(vsphere, options)
  for await (const props of retrieveAll(vsphere, { type: 'VirtualMachine', paths: [...PATHS, ...more] }, options)) {
    yield scanned(vsphere, tree, props)
  }
}

function scanned(vsphere: Vsphere, tree: InventoryTree, object: ObjectProps): ScannedVm {
  const text = (path: string): string => object.props.get(path)?.text ?? ''
  const name = decodeName(object.props.get('name')?.text ?? object.obj.value)
  const parent = object.props.get('parent')?.asRef() ?? object.props.get('parentVApp')?.asRef()
  return {
    vm: {
      moref: object.obj.value,
      name,
      instanceUuid: text('config.instanceUuid'),
      biosUuid: text('config.uuid'),
      vcenterUuid: vsphere.about.instanceUuid,
      path: tree.join(parent, name),
    },
    powerState: text('runtime.powerState'),
    isTemplate: object.props.get('config.template')?.asBoolean() ?? false,
    connectionState: text('runtime.connectionState'),
    props: object,
  }
}

export const byPath = (a: VmRef, b: VmRef): number => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.moref < b.moref ? -1 : 1)
