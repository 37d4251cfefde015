import { AgentError, type MoRef } from '../core/index.ts'
import { retrieveOne } from './property-collector.ts'
import { data } from './vim-data.ts'
import { isFault } from './vim-fault.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** An event on the object, visible in vCenter's event list. AUTH (Global.LogEvent). */
export async function logUserEvent(vsphere: Vsphere, entity: MoRef, message: string, options?: CallOptions): Promise<void> {
  await vsphere.call('LogUserEvent', vsphere.service('eventManager'), { entity, msg: message }, options)
}

type CustomField = { readonly key: number; readonly name: string }

async function customFields(vsphere: Vsphere, options?: CallOptions): Promise<readonly CustomField[]> {
  const { props } = await retrieveOne(vsphere, vsphere.service('customFieldsManager'), ['field'], options)
  return (props.get('field')?.items() ?? []).map((field) => ({ key: field.number('key') ?? -1, name: field.string('name') ?? '' }))
}

/** Sets a custom attribute of a VM, making the attribute when it does not exist. vCenter only (UNAVAILABLE on ESXi). AUTH. */
export async function setCustomValue(vsphere: Vsphere, entity: MoRef, name: string, value: string, options?: CallOptions): Promise<void> {
  const manager = vsphere.service('customFieldsManager')
  let field = (await customFields(vsphere, options)).find((one) => one.name === name)
  if (field === undefined) {
    try {
      const [made] = await vsphere.call('AddCustomFieldDef', manager, { name, moType: 'VirtualMachine' }, options)
      field = made === undefined ? undefined : { key: made.number('key') ?? -1, name }
    } catch (error) {
      // Somebody made it meanwhile.
      if (!isFault(error, 'DuplicateName')) throw error
      field = (await customFields(vsphere, options)).find((one) => one.name === name)
    }
  }
  if (field === undefined) throw new AgentError('INTEGRITY', `${vsphere.host} made no custom attribute ${name}.`, { subject: name })
  await vsphere.call('SetField', manager, { entity, key: field.key, value }, options)
}

/** A VM's custom attributes by name; empty on ESXi. */
export async function customValues(vsphere: Vsphere, entity: MoRef, options?: CallOptions): Promise<ReadonlyMap<string, string>> {
  if (!vsphere.hasService('customFieldsManager')) return new Map()
  const names = new Map((await customFields(vsphere, options)).map(({ key, name }) => [key, name]))
  const { props } = await retrieveOne(vsphere, entity, ['customValue'], options)
  const values = new Map<string, string>()
  for (const entry of props.get('customValue')?.items() ?? []) {
    const name = names.get(entry.number('key') ?? -1)
    if (name !== undefined) values.set(name, entry.string('value') ?? '')
  }
  return values
}

const INTERNAL = 'urn:internalvim25'

/**
 * Blocks methods (RelocateVM_Task) on VMs until enabled again with the same source. Undocumented by VMware; vCenter only. A held thing: claim it
 * first. AUTH (Global.DisableMethods at the root).
 */
export async function disableMethods(
  vsphere: Vsphere,
  entities: readonly MoRef[],
  methods: readonly string[],
  source: string,
  options?: CallOptions,
): Promise<void> {
  const method = methods.map((name) => data({ method: name, reasonId: 'vcb-proxy backup' }))
  await vsphere.call(
    'DisableMethods',
    vsphere.service('authorizationManager'),
    { entity: entities, method, sourceId: source },
    { ...options, namespace: INTERNAL },
  )
}

/** Undoes `disableMethods`. Idempotent. */
export async function enableMethods(
  vsphere: Vsphere,
  entities: readonly MoRef[],
  methods: readonly string[],
  source: string,
  options?: CallOptions,
): Promise<void> {
  await vsphere.call(
    'EnableMethods',
    vsphere.service('authorizationManager'),
    { entity: entities, method: methods, sourceId: source },
    { ...options, namespace: INTERNAL },
  )
}
