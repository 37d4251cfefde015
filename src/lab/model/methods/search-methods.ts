import { type LabRef, type LabValue, type MethodCall, type Methods } from '../../wire/index.ts'
import { flag, needReference, needText, reference, text } from '../arguments.ts'
import { parseDatastorePath } from '../datastore-path.ts'
import { type Endpoint } from '../endpoint.ts'
import type { Entity } from '../entity.ts'
import type { VmRecord } from '../record.ts'
import { unescapeName } from './snapshot-methods.ts'

/** SearchIndex: no result is no fault. */
export function searchMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint
  const among = (call: MethodCall): VmRecord[] => {
    const datacenter = reference(call.args, 'datacenter')
    const id = datacenter === undefined ? undefined : view.find(datacenter.value)?.id
    return view.vms().filter((vm) => id === undefined || model.world.datacenterOf(vm.id)?.id === id)
  }
  const running = (vm: VmRecord): boolean => vm.power === 'poweredOn' && vm.tools === 'running'
  const byUuid = (call: MethodCall): LabRef[] => {
    const uuid = needText(call.args, 'uuid').toLowerCase()
    if (flag(call.args, 'vmSearch') === false) return []
    const instance = flag(call.args, 'instanceUuid') ?? false
    return among(call)
      .filter((vm) => (instance ? vm.config.instanceUuid : vm.config.uuid).toLowerCase() === uuid)
      .map((vm) => view.vmRef(vm))
  }
  const byIp = (call: MethodCall): LabRef[] => {
    const ip = needText(call.args, 'ip')
    return flag(call.args, 'vmSearch') === false
      ? []
      : among(call)
          .filter((vm) => running(vm) && vm.ip === ip)
          .map((vm) => view.vmRef(vm))
  }
  const byDns = (call: MethodCall): LabRef[] => {
    const name = needText(call.args, 'dnsName').toLowerCase()
    if (flag(call.args, 'vmSearch') === false) {
      return model.world
        .of('host')
        .filter((host) => view.shows(host) && host.name.toLowerCase() === name)
        .map((host) => view.ref(host))
    }
    return among(call)
      .filter((vm) => running(vm) && (vm.hostName ?? vm.config.name).toLowerCase() === name)
      .map((vm) => view.vmRef(vm))
  }

  return {
    SearchIndex: {
      FindByUuid: (call) => byUuid(call)[0],
      FindAllByUuid: (call) => byUuid(call),
      FindByIp: (call) => byIp(call)[0],
      FindAllByIp: (call) => byIp(call),
      FindByDnsName: (call) => byDns(call)[0],
      FindAllByDnsName: (call) => byDns(call),
      FindByDatastorePath: (call) => {
        const parsed = parseDatastorePath(needText(call.args, 'path'))
        const vm = among(call).find((candidate) => candidate.path === `[${parsed.datastore}] ${parsed.path}`)
        return vm === undefined ? undefined : view.vmRef(vm)
      },
      FindByInventoryPath: (call): LabValue => {
        const parts = needText(call.args, 'inventoryPath')
          .split('/')
          .filter((part) => part !== '')
          .map(unescapeName)
        let at: Entity | undefined = model.world.entity(model.world.root)
        for (const part of parts) {
          if (at === undefined) return undefined
          const here: Entity = at
          at = childrenOf(here).find((child) => nameOf(child) === part)
        }
        return at === undefined ? undefined : view.ref(at)
      },
      FindChild: (call) => {
        const entity = view.find(needReference(call.args, 'entity').value)
        const name = text(call.args, 'name') ?? ''
        const child =
          entity === undefined
            ? undefined
            : childrenOf(entity).find((candidate) => nameOf(candidate) === name || nameOf(candidate) === unescapeName(name))
        return child === undefined ? undefined : view.ref(child)
      },
    },
  }

  function childrenOf(entity: Entity): Entity[] {
    const found = view.children(entity)
    return entity.kind === 'datacenter' ? found.filter((child) => child.kind === 'folder') : found
  }
  function nameOf(entity: Entity): string {
    if (entity.kind === 'vm') return entity.record.config.name
    if (entity.kind === 'snapshot') return ''
    return entity.kind === 'datacenter' && view.kind === 'esxi' ? 'ha-datacenter' : entity.name
  }
}
