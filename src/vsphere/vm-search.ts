import type { Abortable, MoRef } from '../core/index.ts'
import { isFault } from './vim-fault.ts'
import type { VimNode } from './vim-node.ts'
import type { Vsphere } from './vsphere.ts'

/** References of the VMs a search names. */
export type VmSearch =
  | { readonly by: 'uuid'; readonly uuid: string; readonly instance: boolean }
  | { readonly by: 'ip'; readonly ip: string }
  | { readonly by: 'dns'; readonly name: string }
  | { readonly by: 'path'; readonly path: string }

/** Empty when none. BIOS uuids, addresses and names may belong to several VMs. */
export async function findVms(vsphere: Vsphere, search: VmSearch, options?: Abortable): Promise<readonly MoRef[]> {
  switch (search.by) {
    case 'uuid':
      return findAll(vsphere, 'Uuid', { uuid: search.uuid, vmSearch: true, instanceUuid: search.instance }, options)
    case 'ip':
      return findAll(vsphere, 'Ip', { ip: search.ip, vmSearch: true }, options)
    case 'dns':
      return findAll(vsphere, 'DnsName', { dnsName: search.name, vmSearch: true }, options)
    case 'path': {
      const inventoryPath = search.path.replace(/^\/+/, '')
      return refs(await vsphere.call('FindByInventoryPath', vsphere.service('searchIndex'), { inventoryPath }, options))
    }
  }
}

async function findAll(
  vsphere: Vsphere,
  what: 'Uuid' | 'Ip' | 'DnsName',
  args: Readonly<Record<string, string | boolean>>,
  options?: Abortable,
): Promise<readonly MoRef[]> {
  const index = vsphere.service('searchIndex')
  try {
    return refs(await vsphere.call(`FindAllBy${what}`, index, args, options))
  } catch (error) {
    if (!isFault(error, 'MethodNotFound')) throw error
    return refs(await vsphere.call(`FindBy${what}`, index, args, options))
  }
}

const refs = (answer: readonly VimNode[]): readonly MoRef[] =>
  answer.map((node) => node.asRef()).filter((ref) => ref?.type === 'VirtualMachine') as MoRef[]
