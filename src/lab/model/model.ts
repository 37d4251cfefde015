import type { Clock, Log } from '../../core/index.ts'
import { type LabRef, type LabSession, type LabValue, type TaskHandle, VimFault } from '../wire/index.ts'
import { AttachedDisks } from './attached-disks.ts'
import { FaultRules } from './fault-rules.ts'
import type { z } from 'zod'
import { nfcSchema } from '../scenario.ts'
import { FileHolds } from './file-holds.ts'
import { Files } from './files.ts'
import { fileLocked, taskInProgress } from './faults.ts'
import { Machine, type Programs } from './machine.ts'
import { NfcTickets } from './nfc-tickets.ts'
import { Peaks } from './peaks.ts'
import { disksOf, type VmRecord } from './record.ts'
import { SendMemory } from './send-file.ts'
import type { View } from './view.ts'
import { makeVmFiles } from './make-vm.ts'
import type { World } from './world.ts'

/** A task that is to be forgotten is seen for so long, ms. */
const FORGET_MS = 100

export type ModelOptions = { readonly world: World; readonly clock: Clock; readonly log: Log }

/** What the methods of both endpoints work on: the world, its files, the open machines and the fault rules. */
export class Model implements AsyncDisposable {
  readonly world: World
  readonly files: Files
  readonly rules: FaultRules
  readonly attached = new AttachedDisks(this)
  readonly holds = new FileHolds()
  readonly peaks = new Peaks()
  readonly sendMemory = new SendMemory()
  readonly nfcTickets: NfcTickets
  /** Limits of the NFC service. */
  readonly nfc: Readonly<z.output<typeof nfcSchema>>
  readonly clock: Clock
  readonly log: Log
  readonly #machines = new Map<string, Machine>()
  readonly #busy = new Map<string, string>()
  readonly #making = new Map<string, Promise<void>>()
  readonly #closers: (() => Promise<void>)[] = []

  constructor(options: ModelOptions) {
    this.world = options.world
    this.clock = options.clock
    this.log = options.log
    this.files = new Files(options.world)
    this.nfc = Object.freeze(options.world.lab.scenario.nfc ?? nfcSchema.parse({}))
    this.nfcTickets = new NfcTickets(options.clock, this.nfc.ticketSeconds * 1000)
    this.rules = new FaultRules(options.world.lab.scenario.faults, () => options.world.seeded.next())
  }

  /** The VM's machine with its files made; the files of a generated VM come into being here. */
  async machine(vm: VmRecord): Promise<Machine> {
    await this.ensure(vm)
    return this.#machineOf(vm)
  }

  /** The machine as it is, for questions that must not wait. */
  #machineOf(vm: VmRecord): Machine {
    const known = this.#machines.get(vm.id)
    if (known !== undefined && known.vm === vm) return known
    const machine = new Machine(vm, {
      files: this.files,
      clock: this.clock,
      log: this.log,
      seed: this.world.lab.scenario.seed,
      programs: this.#programsOf(vm),
    })
    this.#machines.set(vm.id, machine)
    return machine
  }

  /** A VM that the scenario does not name has nobody who may log in. */
  #programsOf(vm: VmRecord): Programs {
    const { datacenters } = this.world.lab.scenario
    const found = datacenters.flatMap((each) => each.vms).find((each) => each.name === vm.config.name)
    return { accounts: found?.accounts ?? [], programs: found?.programs ?? [] }
  }

  openMachine(vm: VmRecord): Machine | undefined {
    return this.#machines.get(vm.id)
  }

  /** Makes the VM's files at the first touch. */
  async ensure(vm: VmRecord): Promise<void> {
    if (vm.materialised) return
    const running = this.#making.get(vm.id) ?? makeVmFiles(this, vm, this.#machineOf(vm))
    this.#making.set(vm.id, running)
    try {
      await running
    } finally {
      this.#making.delete(vm.id)
    }
  }

  /** Closes a VM's disks and forgets its machine: before its files go. */
  async close(vm: VmRecord): Promise<void> {
    await this.#machines.get(vm.id)?.[Symbol.asyncDispose]()
    this.#machines.delete(vm.id)
  }

  /** Every name a fault rule may use for a VM. */
  names(vm: VmRecord): string[] {
    return [vm.id, vm.config.name, vm.path, vm.config.instanceUuid]
  }

  /**
   * Starts a task on an entity. With `vm`, one task at a time: fault TaskInProgress otherwise. Fault rules may slow it or fail it; then
   * nothing was done. `fast` work is given the scenario's usual duration.
   */
  task(
    view: View,
    call: { readonly session: Pick<LabSession, 'userName'> },
    name: string,
    entity: LabRef,
    vm: VmRecord | undefined,
    work: (task: TaskHandle) => Promise<LabValue> | LabValue,
    options: { readonly cancelable?: boolean } = {},
  ): LabRef {
    const { tasks } = view
    if (tasks === undefined) throw new Error('the endpoint has no tasks yet')
    if (vm !== undefined) this.claim(vm, name)
    const names = vm === undefined ? [entity.value] : [...this.names(vm), entity.value]
    const rules = this.rules.strike({ on: name, names, endpoint: view.kind }, 'taskError', 'taskMs', 'queueMs', 'forgetTask')
    return tasks.run(
      name,
      entity,
      call.session,
      async (task) => {
        try {
          task.progress(0)
          if (rules.some((rule) => rule.forgetTask === true)) {
            await this.clock.sleep(FORGET_MS)
            tasks.forget(task.ref)
          }
          await this.#pass(task, rules.find((rule) => rule.taskMs !== undefined)?.taskMs ?? this.world.lab.scenario.taskMs)
          const failing = rules.find((rule) => rule.taskError !== undefined)
          if (failing?.taskError !== undefined)
            throw new VimFault(failing.taskError, {}, failing.message ?? 'A fault rule of the lab failed this task.')
          return await work(task)
        } finally {
          if (vm !== undefined) this.release(vm)
        }
      },
      { ...options, queueMs: rules.find((rule) => rule.queueMs !== undefined)?.queueMs },
    )
  }

  /** One task at a time per VM. */
  claim(vm: VmRecord, what: string): void {
    if (this.#busy.has(vm.id)) throw taskInProgress()
    this.#busy.set(vm.id, what)
  }

  /** The task that works on a VM now. */
  busyWith(vm: VmRecord): string | undefined {
    return this.#busy.get(vm.id)
  }

  release(vm: VmRecord): void {
    this.#busy.delete(vm.id)
  }

  /**
   * Who else holds a file of this chain: a fault rule, another VM that has it attached, or an NFC session. `readOnly` are those of the paths that
   * the caller only reads, as other readers may. Fault FileLocked.
   */
  checkLocks(vm: VmRecord, paths: readonly string[], readOnly: ReadonlySet<string> = new Set()): void {
    const rule = this.rules.strike({ names: this.names(vm) }, 'lockHeld')
    const first = paths[0]
    if (first === undefined) return
    if (rule.length > 0) throw fileLocked(first)
    for (const path of paths) {
      const held = this.holds.of(path)
      if (held !== undefined && (held.mode === 'exclusive' || !readOnly.has(path))) throw fileLocked(path)
    }
    for (const other of this.world.vms()) {
      if (other.id === vm.id) continue
      for (const disk of disksOf(other.config)) {
        const held = disk.foreign ? disk.chain.find((link) => paths.includes(link.path)) : undefined
        if (held !== undefined) throw fileLocked(held.path)
      }
    }
  }

  /** Something to end with the model: lease timers, background digests. */
  onClose(close: () => Promise<void>): void {
    this.#closers.push(close)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closers) await close()
    await this.attached[Symbol.asyncDispose]()
    for (const machine of this.#machines.values()) await machine[Symbol.asyncDispose]()
    this.#machines.clear()
    await this.world.settled()
  }

  async #pass(task: TaskHandle, ms: number): Promise<void> {
    const steps = ms < 100 ? 1 : 10
    for (let step = 1; step <= steps; step++) {
      if (ms > 0) await this.clock.sleep(ms / steps, { signal: task.signal })
      task.progress(Math.min(90, (step / steps) * 50))
    }
  }
}
