import { VimFault, type MethodCall, type Methods } from '../../wire/index.ts'
import { type Endpoint, selfVm } from '../endpoint.ts'
import { invalidPowerState, invalidState, notSupported } from '../faults.ts'
import type { Model } from '../model.ts'
import type { VmRecord } from '../record.ts'
import { enableTracking, writeVmx } from '../vm-files.ts'

/** Power state. A change of it is a stun: change tracking asked for before takes hold. */
export function powerMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint
  const change = (call: MethodCall, name: string, from: readonly VmRecord['power'][], to: VmRecord['power']) => {
    const vm = selfVm(endpoint, call)
    if (vm.template) throw notSupported('A template has no power state.')
    if (endpoint.leases.holds(vm)) throw invalidState('A transfer of this VM is under way.')
    // A wrong state shows in the task, not the call: clients switch a VM off first whatever its state, and pass over the task's error.
    return model.task(view, call, name, view.vmRef(vm), vm, async () => {
      if (!from.includes(vm.power)) throw invalidPowerState(to, vm.power)
      await setPower(model, vm, to)
      return undefined
    })
  }
  const needTools = (vm: VmRecord): void => {
    if (vm.power !== 'poweredOn') throw invalidPowerState('poweredOn', vm.power)
    if (vm.tools !== 'running') throw new VimFault('ToolsUnavailable', {}, 'VMware Tools is not running in the guest.')
  }
  return {
    VirtualMachine: {
      PowerOnVM_Task: (call) => change(call, 'PowerOnVM_Task', ['poweredOff', 'suspended'], 'poweredOn'),
      PowerOffVM_Task: (call) => change(call, 'PowerOffVM_Task', ['poweredOn', 'suspended'], 'poweredOff'),
      SuspendVM_Task: (call) => change(call, 'SuspendVM_Task', ['poweredOn'], 'suspended'),
      ResetVM_Task: (call) => {
        const vm = selfVm(endpoint, call)
        if (vm.power !== 'poweredOn') throw invalidPowerState('poweredOn', vm.power)
        return model.task(view, call, 'ResetVM_Task', view.vmRef(vm), vm, async () => {
          await setPower(model, vm, 'poweredOff')
          await setPower(model, vm, 'poweredOn')
          return undefined
        })
      },
      ShutdownGuest: async (call) => {
        const vm = selfVm(endpoint, call)
        needTools(vm)
        await setPower(model, vm, 'poweredOff')
        return undefined
      },
      RebootGuest: async (call) => {
        const vm = selfVm(endpoint, call)
        needTools(vm)
        await setPower(model, vm, 'poweredOff')
        await setPower(model, vm, 'poweredOn')
        return undefined
      },
    },
  }
}

async function setPower(model: Model, vm: VmRecord, to: VmRecord['power']): Promise<void> {
  const machine = await model.machine(vm)
  if (to === 'poweredOn') {
    const paths = vm.config.devices.flatMap((device) => (device.kind === 'disk' ? device.chain.map((link) => link.path) : []))
    const parents = vm.config.devices.flatMap((device) => (device.kind === 'disk' ? device.chain.slice(1).map((link) => link.path) : []))
    model.checkLocks(vm, paths, new Set(parents))
  }
  await machine.use(async () => {
    vm.power = to
    vm.bootTime = to === 'poweredOn' ? model.world.now().toISOString() : undefined
    machine.guest.tools = to === 'poweredOn' ? vm.tools : 'notRunning'
    if (vm.config.changeTracking !== vm.trackingActive) enableTracking(machine, vm)
    writeVmx(model, vm)
    await model.world.keep(vm, 'runtime', 'guest', 'summary', 'config', 'disabledMethod')
  })
}
