import { AgentError } from '../../core/index.ts'
import { fsck } from '../guest/index.ts'
import {
  digestNow,
  digestSnapshot,
  controllerOf,
  diskLabel,
  disksOf,
  locksOfVm,
  type Model,
  settleDigests,
  type SnapshotRecord,
  type VmRecord,
} from '../model/index.ts'
import { faultRuleSchema } from '../scenario.ts'
import type { NfcServer } from '../nfc/index.ts'
import { labCapabilities } from './capabilities.ts'
import type { DiskDigest, FsckReport, LabControl, LabState, LabVmState, SnapshotDigests, WriteRequest, WriteResult } from './lab.ts'

export type ControlSources = {
  readonly model: Model
  readonly nfc: () => NfcServer | undefined
  readonly leases: () => LabState['leases']
  readonly sessions: () => LabState['sessions']
  readonly tasks: () => LabState['tasks']
}

/** The lab's control over its own model; the only way to disks and guests besides the protocols. */
export function createControl(sources: ControlSources): LabControl {
  const { model } = sources
  const { world } = model
  let nextSeed = 1

  const find = (name: string): VmRecord => {
    const found = [...world.vms()].filter(
      (vm) => vm.id === name || vm.config.name === name || vm.config.instanceUuid === name || vm.path === name,
    )
    if (found.length === 1 && found[0] !== undefined) return found[0]
    if (found.length === 0) throw new AgentError('NOT_FOUND', `The lab has no VM "${name}".`, { subject: name })
    throw new AgentError('USAGE', `The lab has ${found.length} VMs named "${name}".`, {
      subject: name,
      next: `Name one by its moref: ${found.map((vm) => vm.id).join(', ')}.`,
    })
  }
  const snapshotOf = (vm: VmRecord, wanted: string): SnapshotRecord => {
    const found = vm.snapshots.filter(
      (snapshot) => snapshot.id === wanted || snapshot.name === wanted || `${vm.id.slice(3)}-snapshot-${snapshot.number}` === wanted,
    )
    const last = found.at(-1)
    if (last === undefined)
      throw new AgentError('NOT_FOUND', `The VM "${vm.config.name}" has no snapshot "${wanted}".`, { subject: wanted })
    return last
  }

  return {
    async write(name, request = {}) {
      const vm = find(name)
      const machine = await model.machine(vm)
      return machine.use(async () => {
        const written: WriteResult['written'][number][] = []
        for (const wish of wishes(request)) {
          const disks = machine.recordDisks()
          const chosen = request.disk === undefined ? 0 : disks.findIndex((disk) => disk.key === request.disk)
          if ('records' in wish) {
            const done = await machine.guest.writeNow(wish)
            done.perDisk.forEach((entry, index) => written.push({ key: disks[index]?.key ?? 0, ...entry }))
            continue
          }
          const target = disks[chosen]
          if (target === undefined)
            throw new AgentError('NOT_FOUND', `The VM "${vm.config.name}" has no writable disk ${request.disk ?? ''}.`, {
              subject: vm.config.name,
            })
          const seed = request.seed ?? nextSeed++
          const done = await machine.guest.writeNow(
            'areas' in wish
              ? { areas: wish.areas, seed, disk: chosen }
              : {
                  percent: 'percent' in wish ? wish.percent : (wish.bytes / target.capacity) * 100,
                  blockBytes: request.unit ?? 65_536,
                  seed,
                  disk: chosen,
                },
          )
          const entry = done.perDisk[chosen]
          written.push({ key: target.key, bytes: entry?.bytes ?? 0, areas: entry?.areas ?? 0 })
        }
        return { vm: vm.config.name, lastRecord: machine.guest.lastRecord, written }
      })
    },

    async sha256(name, options = {}): Promise<readonly DiskDigest[]> {
      const vm = find(name)
      const machine = await model.machine(vm)
      return machine.use(() =>
        options.snapshot === undefined
          ? digestNow(machine, vm, options.disk)
          : digestSnapshot(machine, snapshotOf(vm, options.snapshot), options.disk),
      )
    },

    async fsck(name, options = {}): Promise<FsckReport> {
      const vm = find(name)
      const machine = await model.machine(vm)
      return machine.use(async () => {
        const snapshot = options.snapshot === undefined ? undefined : snapshotOf(vm, options.snapshot)
        using _stunned = machine.guest.stun()
        using stack = new DisposableStack()
        const keys = new Set(machine.recordDisks().map((disk) => disk.key))
        const disks = disksOf(snapshot?.config ?? vm.config)
          .filter((disk) => keys.has(disk.key))
          .sort((a, b) => a.key - b.key)
        const images = disks.map((disk) => {
          const open = machine.disk(disk.key)
          const link = disk.chain[0]
          if (snapshot === undefined && open !== undefined) return open
          if (link === undefined)
            throw new AgentError('NOT_FOUND', `A disk of "${vm.config.name}" has no file.`, { subject: vm.config.name })
          return stack.use(machine.view(disk, link))
        })
        const result = await fsck(images)
        return {
          vm: vm.config.name,
          snapshot: snapshot?.id,
          ok: result.ok,
          sameRecord: result.sameRecord,
          disks: result.disks.map((check, index) => {
            const disk = disks[index]
            return {
              key: disk?.key ?? 0,
              label: disk === undefined ? '' : diskLabel(snapshot?.config ?? vm.config, disk),
              lastRecord: check.lastRecord,
              records: check.records,
              problems: check.problems,
            }
          }),
        }
      })
    },

    async digestsAtSnapshot(name): Promise<readonly SnapshotDigests[]> {
      const vm = find(name)
      await settleDigests(model, vm)
      return structuredClone(vm.digests)
    },

    async workload(name, recordsPerSecond) {
      const vm = find(name)
      vm.workload = recordsPerSecond
      const machine = await model.machine(vm)
      await machine.settle()
      await world.keep(vm)
    },

    async capacity(name, bytes) {
      const store = [...model.files.stores].find((candidate) => candidate.name === name)
      if (store === undefined) throw new AgentError('NOT_FOUND', `The lab has no datastore "${name}".`, { subject: name })
      if (!Number.isSafeInteger(bytes) || bytes <= 0) throw new AgentError('USAGE', `${bytes} is no capacity.`)
      store.capacityBytes = bytes
    },

    async fault(rule) {
      const checked = faultRuleSchema.safeParse(rule)
      if (!checked.success) {
        const issue = checked.error.issues[0]
        throw new AgentError('USAGE', `The fault rule is wrong at ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}.`, {
          next: 'See docs/lab-scenario.md for the fields of a rule.',
        })
      }
      const id = model.rules.add(checked.data)
      applySpace()
      return id
    },
    async faults() {
      return model.rules.list()
    },
    async clearFaults(id) {
      if (!model.rules.clear(id) && id !== undefined) throw new AgentError('NOT_FOUND', `There is no fault rule ${id}.`, { subject: id })
      applySpace()
    },

    async state(): Promise<LabState> {
      const vms = [...world.vms()]
      const shown = vms.length <= 200 ? vms : vms.filter((vm) => vm.materialised)
      return {
        datastores: [...model.files.stores].map((store) => ({
          name: store.name,
          type: store.type,
          directory: store.directory,
          capacityBytes: store.capacityBytes,
          usedBytes: store.used(),
        })),
        vms: shown.map((vm) => vmState(model, vm)),
        vmCount: vms.length,
        tasks: sources.tasks(),
        leases: sources.leases(),
        sessions: sources.sessions(),
        locks: [...shown.flatMap((vm) => locksOfVm(model, vm)), ...model.holds.list()],
        faults: model.rules.list(),
        nfc: {
          connections: sources.nfc()?.connections ?? 0,
          memoryBytes: sources.nfc()?.memoryBytes ?? 0,
          sessions: sources.nfc()?.sessions() ?? [],
        },
        peaks: model.peaks.list(),
      }
    },
    async guestHistory(name) {
      return (await model.machine(find(name))).system.history
    },
    async guestFiles(name) {
      return (await model.machine(find(name))).system.paths
    },
    capabilities: labCapabilities,
  }

  /** `datastoreFull` is not asked at each write but stands on the datastore itself. */
  function applySpace(): void {
    const full = new Set(model.rules.list().map((entry) => entry.rule.datastoreFull))
    for (const store of model.files.stores) store.full = full.has(store.name)
  }
}

type Wish = { records: number } | { percent: number } | { bytes: number } | { areas: readonly { offset: number; length: number }[] }

function wishes(request: WriteRequest): Wish[] {
  const found: Wish[] = []
  if (request.records !== undefined) found.push({ records: request.records })
  if (request.percent !== undefined) found.push({ percent: request.percent })
  if (request.bytes !== undefined) found.push({ bytes: request.bytes })
  if (request.areas !== undefined) found.push({ areas: request.areas })
  return found.length === 0 ? [{ records: 1 }] : found
}

function vmState(model: Model, vm: VmRecord): LabVmState {
  return {
    name: vm.config.name,
    moref: vm.id,
    host: model.world.host(vm.host)?.name ?? vm.host,
    powerState: vm.power,
    consolidationNeeded: vm.consolidationNeeded,
    changeTracking: vm.trackingActive,
    snapshots: vm.snapshots.map((snapshot) => ({
      moref: snapshot.id,
      name: snapshot.name,
      quiesced: snapshot.quiesced,
      createdAt: snapshot.createdAt,
    })),
    disks: disksOf(vm.config).map((disk) => ({
      key: disk.key,
      label: diskLabel(vm.config, disk),
      fileName: disk.chain[0]?.path ?? '',
      chain: disk.chain.map((link) => link.path),
      attached: disk.foreign,
      controller: controllerOf(vm.config, disk)?.controller ?? '',
    })),
    guest: guestState(model, vm),
    disabledMethods: vm.disabledMethods.map(({ method, source }) => ({ method, source })),
    frozen: model.openMachine(vm)?.frozen ?? false,
    longestFreezeMs: vm.longestFreezeMs ?? 0,
    stalled: model.openMachine(vm)?.stalled ?? false,
  }
}

function guestState(model: Model, vm: VmRecord): LabVmState['guest'] {
  const guest = model.attached.guest(vm)
  return guest === undefined ? undefined : { sysfs: guest.tree.sysfs, devices: guest.tree.devices, disks: guest.shown }
}
