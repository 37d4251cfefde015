import { invalidArgument, type LabObject, type MethodCall, type Methods } from '../../wire/index.ts'
import { flag, needNumber, needText, number, object, reference, text } from '../arguments.ts'
import { changedAreas } from '../changed-areas.ts'
import { type Endpoint, selfVm, snapshotOf } from '../endpoint.ts'
import { invalidState } from '../faults.ts'
import type { VmRecord } from '../record.ts'
import { consolidate, createSnapshot, removeSnapshot, revertTo, type SnapshotWish } from '../snapshot.ts'

/** Snapshots, consolidation and change tracking. */
export function snapshotMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint

  /** A lease keeps whatever rearranges the VM's files away until it ends. */
  const refuseLeased = (vm: VmRecord): void => {
    if (endpoint.leases.holds(vm)) throw invalidState('A transfer of this VM is under way.')
  }

  const create = (call: MethodCall, name: string, wish: SnapshotWish) => {
    const vm = selfVm(endpoint, call)
    refuseLeased(vm)
    const cancelable = model.rules.strike({ names: model.names(vm) }, 'notCancelable').length === 0
    return model.task(
      view,
      call,
      name,
      view.vmRef(vm),
      vm,
      async (task) => {
        const machine = await model.machine(vm)
        const snapshot = await machine.use(() => createSnapshot(model, vm, machine, { ...wish, signal: task.signal }))
        task.progress(99)
        return view.snapshotRef(snapshot, vm)
      },
      { cancelable },
    )
  }

  return {
    VirtualMachine: {
      CreateSnapshot_Task: (call) =>
        create(call, 'CreateSnapshot_Task', {
          name: unescapeName(needText(call.args, 'name')),
          description: text(call.args, 'description') ?? '',
          memory: flag(call.args, 'memory') ?? false,
          quiesce: flag(call.args, 'quiesce') ?? false,
        }),
      CreateSnapshotEx_Task: (call) => {
        const spec = object(call.args, 'quiesceSpec')
        const minutes = number(spec, 'timeout')
        if (minutes !== undefined && (minutes < 5 || minutes > 240)) throw invalidArgument('quiesceSpec.timeout')
        return create(call, 'CreateSnapshotEx_Task', {
          name: unescapeName(needText(call.args, 'name')),
          description: text(call.args, 'description') ?? '',
          memory: flag(call.args, 'memory') ?? false,
          quiesce: spec !== undefined,
          timeoutMinutes: minutes,
          vss: vssOf(spec),
        })
      },
      RefreshStorageInfo: (call) => {
        view.feed.changed(call.self.ref, 'layoutEx', 'storage')
        return undefined
      },
      RemoveAllSnapshots_Task: (call) => {
        const vm = selfVm(endpoint, call)
        refuseLeased(vm)
        return model.task(view, call, 'RemoveAllSnapshots_Task', view.vmRef(vm), vm, async (task) => {
          const machine = await model.machine(vm)
          await machine.use(async () => {
            for (let root = vm.snapshots.find((snapshot) => snapshot.parent === undefined); root !== undefined; root = vm.snapshots[0]) {
              await removeSnapshot(model, vm, machine, root, {
                children: true,
                consolidate: flag(call.args, 'consolidate') ?? true,
                onProgress: (percent) => task.progress(percent),
              })
            }
          })
          return undefined
        })
      },
      RevertToCurrentSnapshot_Task: (call) => {
        const vm = selfVm(endpoint, call)
        refuseLeased(vm)
        const snapshot = vm.snapshots.find((candidate) => candidate.id === vm.currentSnapshot)
        if (snapshot === undefined) throw invalidState('The VM has no snapshot.')
        return model.task(view, call, 'RevertToCurrentSnapshot_Task', view.vmRef(vm), vm, () =>
          revertTo(model, vm, snapshot).then(() => undefined),
        )
      },
      ConsolidateVMDisks_Task: (call) => {
        const vm = selfVm(endpoint, call)
        refuseLeased(vm)
        return model.task(view, call, 'ConsolidateVMDisks_Task', view.vmRef(vm), vm, async (task) => {
          const machine = await model.machine(vm)
          await machine.use(() => consolidate(model, vm, machine, (percent) => task.progress(percent)))
          return undefined
        })
      },
      QueryChangedDiskAreas: async (call) => {
        const vm = selfVm(endpoint, call)
        const given = reference(call.args, 'snapshot')
        const found = given === undefined ? undefined : snapshotOf(endpoint, given)
        if (found !== undefined && found.vm.id !== vm.id) throw invalidArgument('snapshot')
        return changedAreas(model, vm, {
          snapshot: found?.snapshot,
          deviceKey: needNumber(call.args, 'deviceKey'),
          startOffset: needNumber(call.args, 'startOffset'),
          changeId: needText(call.args, 'changeId'),
        })
      },
    },
    VirtualMachineSnapshot: {
      RemoveSnapshot_Task: (call) => {
        const { vm, snapshot } = snapshotOf(endpoint, call.self.ref)
        refuseLeased(vm)
        return model.task(view, call, 'RemoveSnapshot_Task', view.vmRef(vm), vm, async (task) => {
          const machine = await model.machine(vm)
          await machine.use(() =>
            removeSnapshot(model, vm, machine, snapshot, {
              children: flag(call.args, 'removeChildren') ?? false,
              consolidate: flag(call.args, 'consolidate') ?? true,
              onProgress: (percent) => task.progress(percent),
            }),
          )
          return undefined
        })
      },
      RevertToSnapshot_Task: (call) => {
        const { vm, snapshot } = snapshotOf(endpoint, call.self.ref)
        refuseLeased(vm)
        return model.task(view, call, 'RevertToSnapshot_Task', view.vmRef(vm), vm, () =>
          revertTo(model, vm, snapshot).then(() => undefined),
        )
      },
      RenameSnapshot: async (call) => {
        const { vm, snapshot } = snapshotOf(endpoint, call.self.ref)
        snapshot.name = unescapeName(text(call.args, 'name') ?? snapshot.name)
        snapshot.description = text(call.args, 'description') ?? snapshot.description
        await model.world.keep(vm, 'snapshot')
        return undefined
      },
      ExportSnapshot: async (call) => {
        const { vm, snapshot } = snapshotOf(endpoint, call.self.ref)
        return endpoint.leases.exportVm(call.session, vm, snapshot)
      },
    },
  }
}

/** `%25`, `%2f` and `%5c` in names stand for `%`, `/` and `\`. */
export const unescapeName = (name: string): string =>
  name.replace(/%(25|2f|5c)/gi, (_whole, code: string) => String.fromCharCode(Number.parseInt(code, 16)))

const CONTEXTS = ['ctx_auto', 'ctx_backup', 'ctx_file_share_backup']
/** VSS_BT_FULL to VSS_BT_OTHER (vss.h). */
const BACKUP_TYPES = { least: 1, most: 6 }

/** What a VirtualMachineWindowsQuiesceSpec tells VSS, in words. That a host refuses other values with InvalidArgument is our reading of the documentation. */
function vssOf(spec: LabObject | undefined): readonly string[] | undefined {
  if (spec?.$type !== 'VirtualMachineWindowsQuiesceSpec') return undefined
  const [context, type] = [text(spec, 'vssBackupContext'), number(spec, 'vssBackupType')]
  if (context !== undefined && !CONTEXTS.includes(context)) throw invalidArgument('quiesceSpec.vssBackupContext')
  if (type !== undefined && (type < BACKUP_TYPES.least || type > BACKUP_TYPES.most)) throw invalidArgument('quiesceSpec.vssBackupType')
  return [
    `context ${context ?? 'unset'}`,
    `type ${type ?? 'unset'}`,
    `bootable ${flag(spec, 'vssBootableSystemState') ?? 'unset'}`,
    `partial ${flag(spec, 'vssPartialFileSupport') ?? 'unset'}`,
  ]
}
