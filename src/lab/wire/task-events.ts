import type { Events } from './events.ts'
import type { ManagedObject } from './managed-object.ts'
import type { Tasks } from './task.ts'
import { isObject, isRef, type LabObject, type LabRef, type LabValue, textOf } from './value.ts'

type Lookup = (ref: LabRef) => ManagedObject | undefined

/** What a server logs when a VM's task has succeeded, beside the TaskEvent of its start. */
const DONE: Readonly<Record<string, readonly [type: string, words: string]>> = {
  PowerOnVM_Task: ['VmPoweredOnEvent', 'is powered on'],
  PowerOffVM_Task: ['VmPoweredOffEvent', 'is powered off'],
  SuspendVM_Task: ['VmSuspendedEvent', 'is suspended'],
  ReconfigVM_Task: ['VmReconfiguredEvent', 'is reconfigured'],
  CreateVM_Task: ['VmCreatedEvent', 'was created'],
  RegisterVM_Task: ['VmRegisteredEvent', 'was registered'],
}

/** Writes the events that belong to tasks into the log: TaskEvent when one starts, the VM's own event when it has done its work. */
export function logTasks(tasks: Tasks, events: Events, lookup: Lookup): Disposable {
  return tasks.subscribe((ref) => {
    const info = tasks.get(ref)?.property('info')
    if (!isObject(info)) return
    const state = info.state
    const user = isObject(info.reason) ? textOf(info.reason.userName) : ''
    if (state === 'queued' || state === 'running') {
      events.post({
        $type: 'TaskEvent',
        chainId: info.eventChainId,
        userName: user,
        ...entityArgument(isRef(info.entity) ? info.entity : undefined, lookup),
        fullFormattedMessage: `Task: ${textOf(info.descriptionId)}`,
        info,
      })
    } else if (state === 'success') {
      const done = DONE[textOf(info.name)]
      // A task that makes a VM runs on its folder and results in the VM.
      const vm = [info.result, info.entity].find((candidate) => isRef(candidate) && candidate.$ref === 'VirtualMachine')
      if (done === undefined || !isRef(vm)) return
      const [type, words] = done
      events.post({
        $type: type,
        chainId: info.eventChainId,
        userName: user,
        ...entityArgument(vm, lookup),
        fullFormattedMessage: `${nameOf(vm, lookup)} ${words}`,
        template: false,
        ...(type === 'VmReconfiguredEvent' ? { configSpec: { $type: 'VirtualMachineConfigSpec' } } : {}),
      })
    }
  })
}

const KINDS: Readonly<Record<string, readonly [field: string, type: string, inner: string]>> = {
  VirtualMachine: ['vm', 'VmEventArgument', 'vm'],
  HostSystem: ['host', 'HostEventArgument', 'host'],
  Datastore: ['ds', 'DatastoreEventArgument', 'datastore'],
  ComputeResource: ['computeResource', 'ComputeResourceEventArgument', 'computeResource'],
  ClusterComputeResource: ['computeResource', 'ComputeResourceEventArgument', 'computeResource'],
  Datacenter: ['datacenter', 'DatacenterEventArgument', 'datacenter'],
}

/** The fields by which an event names its entity, as far as events can name it. */
export function entityArgument(ref: LabRef | undefined, lookup: Lookup): Record<string, LabValue> {
  const kind = ref === undefined ? undefined : KINDS[ref.$ref]
  if (ref === undefined || kind === undefined) return {}
  const [field, type, inner] = kind
  const argument: LabObject = { $type: type, name: nameOf(ref, lookup), [inner]: ref }
  return { [field]: argument }
}

export const nameOf = (ref: LabRef, lookup: Lookup): string => textOf(lookup(ref)?.property('name') ?? ref.value)
