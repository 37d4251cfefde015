import { type Methods, notFound, VimFault } from '../../wire/index.ts'
import { flag, needNumber, needReference, needText, number, objects, references, text, texts } from '../arguments.ts'
import { type Endpoint, entityOf } from '../endpoint.ts'
import { notSupported } from '../faults.ts'
import { hasPrivilege } from '../privilege.ts'
import { customFieldDefs } from '../properties/vm.ts'

/** Privileges, disabled methods, custom attributes, extensions, licences, environment. */
export function adminMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint
  const { world } = model
  const vcenterOnly = (): void => {
    if (view.kind === 'esxi') throw notSupported()
  }
  return {
    AuthorizationManager: {
      HasPrivilegeOnEntities: (call) => {
        const session = endpoint.sessions.list().find((candidate) => candidate.key === text(call.args, 'sessionId'))
        const user = session?.userName ?? call.session.userName
        return references(call.args, 'entity').map((entity) => ({
          $type: 'EntityPrivilege',
          entity,
          privAvailability: texts(call.args, 'privId').map((privId) => ({
            $type: 'PrivilegeAvailability',
            privId,
            isGranted: hasPrivilege(endpoint, user, privId),
          })),
        }))
      },
      HasUserPrivilegeOnEntities: (call) =>
        references(call.args, 'entities').map((entity) => ({
          $type: 'EntityPrivilege',
          entity,
          privAvailability: texts(call.args, 'privId').map((privId) => ({
            $type: 'PrivilegeAvailability',
            privId,
            isGranted: hasPrivilege(endpoint, text(call.args, 'userName') ?? '', privId),
          })),
        })),
      DisableMethods: async (call) => {
        vcenterOnly()
        for (const ref of references(call.args, 'entity')) {
          const vm = entityOf(endpoint, ref, 'vm').record
          const source = needText(call.args, 'sourceId')
          for (const request of objects(call.args, 'method')) {
            const method = needText(request, 'method')
            if (vm.disabledMethods.some((entry) => entry.method === method && entry.source === source)) continue
            vm.disabledMethods.push({
              method,
              source,
              reason: text(request, 'reasonId') ?? '',
              session: flag(call.args, 'sessionScope') === true ? call.session.key : undefined,
            })
          }
          if (flag(call.args, 'sessionScope') === true) {
            call.session.ended.addEventListener('abort', () => {
              vm.disabledMethods = vm.disabledMethods.filter((entry) => entry.session !== call.session.key)
              void world
                .keep(vm, 'disabledMethod')
                .catch((error: unknown) => model.log.error('a lock was not lifted', { error: String(error) }))
            })
          }
          await world.keep(vm, 'disabledMethod')
        }
        return undefined
      },
      EnableMethods: async (call) => {
        vcenterOnly()
        const names = texts(call.args, 'method')
        for (const ref of references(call.args, 'entity')) {
          const vm = entityOf(endpoint, ref, 'vm').record
          vm.disabledMethods = vm.disabledMethods.filter(
            (entry) => entry.source !== text(call.args, 'sourceId') || !names.includes(entry.method),
          )
          await world.keep(vm, 'disabledMethod')
        }
        return undefined
      },
    },
    CustomFieldsManager: {
      AddCustomFieldDef: async (call) => {
        const name = needText(call.args, 'name')
        const moType = text(call.args, 'moType')
        if (world.lab.customFields.some((field) => field.name === name && field.moType === moType)) {
          throw new VimFault('DuplicateName', { name, object: call.self.ref }, `The name '${name}' already exists.`)
        }
        const key = 1 + Math.max(100, ...world.lab.customFields.map((field) => field.key))
        world.lab.customFields.push({ key, name, moType })
        await world.saveLab()
        view.feed.changed(call.self.ref, 'field')
        return customFieldDefs(view).find((field) => field['key'] === key)
      },
      RemoveCustomFieldDef: async (call) => {
        const key = needNumber(call.args, 'key')
        if (!world.lab.customFields.some((field) => field.key === key)) throw notFound(call.self.ref)
        world.lab.customFields = world.lab.customFields.filter((field) => field.key !== key)
        await world.saveLab()
        view.feed.changed(call.self.ref, 'field')
        return undefined
      },
      SetField: async (call) => {
        const vm = entityOf(endpoint, needReference(call.args, 'entity'), 'vm').record
        const key = number(call.args, 'key')
        if (!world.lab.customFields.some((field) => field.key === key))
          throw new VimFault('InvalidArgument', { invalidProperty: 'key' }, 'There is no such custom field.')
        const value = text(call.args, 'value') ?? ''
        if (value === '') delete vm.customValues[String(key)]
        else vm.customValues[String(key)] = value
        await world.keep(vm, 'customValue', 'value', 'summary')
        return undefined
      },
    },
    ExtensionManager: {
      FindExtension: () => undefined,
    },
    LicenseManager: {
      QuerySupportedFeatures: () => [],
    },
    EnvironmentBrowser: {
      QueryConfigOptionDescriptor: () => [
        {
          $type: 'VirtualMachineConfigOptionDescriptor',
          key: 'vmx-19',
          description: 'ESXi 7.0 U2 and later',
          defaultConfigOption: true,
          createSupported: true,
          runSupported: true,
          upgradeSupported: true,
        },
      ],
    },
  }
}
