import type { Abortable, MoRef } from '../core/index.ts'
import { decodeName, encodeName, loadInventoryTree, retrieveAll, type Vsphere } from '../vsphere/index.ts'

/** A host names its root folder in inventory paths, a vCenter does not. */
const rootOf = (vsphere: Vsphere): string => (vsphere.about.kind === 'esxi' ? '/ha-folder-root' : '')

/** Inventory paths of all resource pools, sorted: `/DC/host/Cluster/Resources/Gold`. Changes nothing; two or three calls. */
export async function resourcePoolPaths(vsphere: Vsphere, options?: Abortable): Promise<readonly string[]> {
  const tree = await loadInventoryTree(vsphere, options)
  const pools = new Map<string, { readonly name: string; readonly parent: MoRef | undefined }>()
  for await (const { obj, props } of retrieveAll(vsphere, { type: 'ResourcePool', paths: ['name', 'parent'] }, options))
    pools.set(obj.value, { name: decodeName(props.get('name')?.text ?? '?'), parent: props.get('parent')?.asRef() })
  const pathOf = (moref: MoRef | undefined, depth: number): string => {
    const pool = moref === undefined || depth > 100 ? undefined : pools.get(moref.value)
    return pool === undefined ? (tree.pathOf(moref) ?? '/?') : `${pathOf(pool.parent, depth + 1)}/${encodeName(pool.name)}`
  }
  return [...pools.keys()].map((value) => rootOf(vsphere) + pathOf({ type: 'ResourcePool', value }, 0)).sort()
}

/** Inventory paths of all folders that hold VMs, sorted: `/DC/vm`, `/DC/vm/prod`. Changes nothing; two or three calls. */
export async function vmFolderPaths(vsphere: Vsphere, options?: Abortable): Promise<readonly string[]> {
  const tree = await loadInventoryTree(vsphere, options)
  const paths: string[] = []
  for await (const { obj, props } of retrieveAll(vsphere, { type: 'Folder', paths: ['childType'] }, options)) {
    if (
      props
        .get('childType')
        ?.items()
        .some(({ text }) => text === 'VirtualMachine') !== true
    )
      continue
    paths.push(rootOf(vsphere) + (tree.pathOf(obj) ?? '/?'))
  }
  return paths.sort()
}
