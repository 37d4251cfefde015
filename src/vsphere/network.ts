import type { Abortable, MoRef } from '../core/index.ts'
import { retrieveAll, retrieveMany } from './property-collector.ts'
import type { VimNode } from './vim-node.ts'
import type { Vsphere } from './vsphere.ts'

export type NetworkRef = {
  readonly moref: MoRef
  readonly name: string
  readonly kind: 'standard' | 'distributed' | 'opaque'
  /** Of a distributed port group: what an adapter's backing needs. */
  readonly portgroupKey?: string | undefined
  readonly switchUuid?: string | undefined
}

const kindOf = (type: string): NetworkRef['kind'] =>
  type === 'DistributedVirtualPortgroup' ? 'distributed' : type === 'OpaqueNetwork' ? 'opaque' : 'standard'

/** Networks and distributed port groups below `container` (everything when absent). */
export async function listNetworks(vsphere: Vsphere, container?: MoRef, options?: Abortable): Promise<readonly NetworkRef[]> {
  const found: NetworkRef[] = []
  for await (const { obj, props } of retrieveAll(vsphere, { type: 'Network', paths: ['name'], container }, options)) {
    found.push({ moref: obj, name: props.get('name')?.text ?? obj.value, kind: kindOf(obj.type) })
  }
  const groups = found.filter(({ kind }) => kind === 'distributed').map(({ moref }) => moref)
  if (groups.length === 0) return found
  const details = await groupDetails(vsphere, groups, options)
  return found.map((network) => ({ ...network, ...details.get(network.moref.value) }))
}

async function groupDetails(
  vsphere: Vsphere,
  groups: readonly MoRef[],
  options?: Abortable,
): Promise<ReadonlyMap<string, { readonly portgroupKey: string | undefined; readonly switchUuid: string | undefined }>> {
  const read = await retrieveMany(vsphere, groups, ['key', 'config.distributedVirtualSwitch'], options)
  const bySwitch = new Map<string, MoRef[]>()
  const switchOf = (props: ReadonlyMap<string, VimNode>): MoRef | undefined => props.get('config.distributedVirtualSwitch')?.asRef()
  for (const { props } of read) {
    const ref = switchOf(props)
    if (ref !== undefined) bySwitch.set(ref.type, [...(bySwitch.get(ref.type) ?? []), ref])
  }
  const uuids = new Map<string, string>()
  for (const refs of bySwitch.values()) {
    const unique = [...new Map(refs.map((ref) => [ref.value, ref])).values()]
    for (const { obj, props } of await retrieveMany(vsphere, unique, ['uuid'], options)) uuids.set(obj.value, props.get('uuid')?.text ?? '')
  }
  return new Map(
    read.map(({ obj, props }) => [
      obj.value,
      { portgroupKey: props.get('key')?.text, switchUuid: uuids.get(switchOf(props)?.value ?? '') },
    ]),
  )
}
