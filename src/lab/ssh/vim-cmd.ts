import { createSnapshot, removeSnapshot, type VmRecord } from '../model/index.ts'
import { type LabValue, VimFault } from '../wire/index.ts'
import type { Command, CommandCall } from './command.ts'

/** Between two looks at a task, ms. */
const POLL_MS = 5

/**
 * `vim-cmd vmsvc/…` of the host: getallvms, get.summary, snapshot.get, snapshot.create, snapshot.remove. A VM is named by its number on this host.
 * Tasks are the host's own, so that its API shows them; a failure is words on the output and status 1.
 */
export const vimCmd: Command = async (call) => {
  const [, name = '', id = '', ...rest] = call.words
  const say = async (text: string): Promise<void> => void (await call.out(Buffer.from(text)))
  if (name === 'vmsvc/getallvms') {
    const rows = onHost(call).map(
      (vm) =>
        `${numberOf(vm)}     ${vm.config.name}     ${vm.path}     ${vm.config.guestId}     vmx-${vm.config.hardware}     ${vm.config.annotation}\n`,
    )
    await say(`Vmid   Name   File   Guest OS   Version   Annotation\n${rows.join('')}`)
    return 0
  }
  const vm = onHost(call).find((candidate) => numberOf(candidate) === id)
  if (vm === undefined) {
    await say(
      `(vim.fault.NotFound) {\n   faultCause = (vmodl.MethodFault) null, \n   msg = "Unable to find a VM corresponding to \\"${id}\\""\n}\n`,
    )
    return 1
  }
  const tasks = tasksOf(call, vm)
  try {
    switch (name) {
      case 'vmsvc/get.summary':
        await say(summary(vm))
        return 0
      case 'vmsvc/snapshot.get':
        await say(tree(vm))
        return 0
      case 'vmsvc/snapshot.create': {
        const [wanted = '', description = '', memory = '0', quiesce = '0'] = rest
        await say('Create Snapshot:\n')
        await tasks('CreateSnapshot_Task', async (machine) => {
          await createSnapshot(call.model, vm, machine, { name: wanted, description, memory: memory === '1', quiesce: quiesce === '1' })
        })
        return 0
      }
      case 'vmsvc/snapshot.remove': {
        const snapshot = vm.snapshots.find((candidate) => String(candidate.number) === rest[0])
        if (snapshot === undefined) throw new VimFault('NotFound', {}, `Unable to find a snapshot with id ${rest[0] ?? ''}.`)
        await say('Remove Snapshot:\n')
        await tasks('RemoveSnapshot_Task', async (machine) => {
          await removeSnapshot(call.model, vm, machine, snapshot, { children: rest[1] === '1', consolidate: true })
        })
        await say(tree(vm))
        return 0
      }
      default:
        await say(`Invalid command '${name}'.\n`)
        return 1
    }
  } catch (error) {
    if (!(error instanceof VimFault)) throw error
    await say(`(vim.fault.${error.faultType}) {\n   faultCause = (vmodl.MethodFault) null, \n   msg = "${error.message}"\n}\n`)
    return 1
  }
}

const onHost = (call: CommandCall): VmRecord[] => [...call.model.world.vms()].filter((vm) => vm.host === call.host)
const numberOf = (vm: VmRecord): string => vm.id.slice('vm-'.length)

type Work = (machine: Awaited<ReturnType<CommandCall['model']['machine']>>) => Promise<void>

/** Runs a task of the host and waits for its end. Throws the task's fault. */
function tasksOf(call: CommandCall, vm: VmRecord): (name: string, work: Work) => Promise<void> {
  const { model, view } = call
  return async (name, work) => {
    if (view?.tasks === undefined) throw new VimFault('NotSupported', {}, 'Only the host of the ESXi endpoint has tasks of its own here.')
    let failed: unknown
    const ref = model.task(view, { session: { userName: 'root' } }, name, view.vmRef(vm), vm, async () => {
      try {
        const machine = await model.machine(vm)
        await machine.use(() => work(machine))
      } catch (error) {
        failed = error
        throw error
      }
      return undefined
    })
    for (;;) {
      const info = view.tasks.get(ref)?.property('info')
      const state = typeof info === 'object' && info !== null && 'state' in info ? info.state : undefined
      if (state === 'success') return
      if (state === undefined || state === 'error') throw failed ?? faultIn(info)
      await model.clock.sleep(POLL_MS)
    }
  }
}

/** A task that failed before its work began tells so in its info alone. */
function faultIn(info: LabValue): VimFault {
  const error = typeof info === 'object' && info !== null && 'error' in info ? info.error : undefined
  const fault = typeof error === 'object' && error !== null && 'fault' in error ? error.fault : undefined
  const type = typeof fault === 'object' && fault !== null && '$type' in fault ? fault.$type : undefined
  return new VimFault(typeof type === 'string' ? type : 'GenericVmConfigFault', {}, 'The task failed.')
}

const summary = (vm: VmRecord): string => `Listsummary:

(vim.vm.Summary) {
   vm = 'vim.VirtualMachine:${numberOf(vm)}', 
   runtime = (vim.vm.RuntimeInfo) {
      device = <unset>, 
      connectionState = "connected", 
      powerState = "${vm.power}", 
   }, 
   config = (vim.vm.Summary.ConfigSummary) {
      name = "${vm.config.name}", 
      template = ${vm.template}, 
      vmPathName = "${vm.path}", 
      memorySizeMB = ${vm.config.memoryMb}, 
      uuid = "${vm.config.uuid}", 
      instanceUuid = "${vm.config.instanceUuid}", 
   }, 
}
`

function tree(vm: VmRecord): string {
  const lines: string[] = ['Get Snapshot:']
  const show = (parent: string | undefined, depth: number): void => {
    for (const snapshot of vm.snapshots.filter((candidate) => candidate.parent === parent)) {
      const dash = '-'.repeat(2 * depth)
      lines.push(
        parent === undefined ? '|-ROOT' : `${dash}|-CHILD`,
        `${dash}--Snapshot Name        : ${snapshot.name}`,
        `${dash}--Snapshot Id        : ${snapshot.number}`,
        `${dash}--Snapshot Desciption  : ${snapshot.description}`,
        `${dash}--Snapshot Created On  : ${snapshot.createdAt}`,
        `${dash}--Snapshot State       : ${snapshot.power === 'poweredOn' ? 'powered on' : 'powered off'}`,
      )
      show(snapshot.id, depth + 1)
    }
  }
  show(undefined, 0)
  return `${lines.join('\n')}\n`
}
