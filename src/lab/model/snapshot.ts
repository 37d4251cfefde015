import { rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { throwIfAborted } from '../../core/index.ts'
import { type Frozen, QuiesceError } from '../guest/index.ts'
import { deleteDisk, LabDisk } from '../storage/index.ts'
import { VimFault } from '../wire/index.ts'
import { baseName, directoryOf, within } from './datastore-path.ts'
import { recordDigests, settleDigests } from './digests.ts'
import { faulting, faultingAsync, storageFault } from './files.ts'
import { fileLocked } from './faults.ts'
import type { Machine } from './machine.ts'
import type { Model } from './model.ts'
import { type ConfigRecord, type DiskRecord, disksOf, isIndependent, type SnapshotRecord, type VmRecord } from './record.ts'
import { enableTracking, writeVmx } from './vm-files.ts'

export type SnapshotWish = {
  readonly name: string
  readonly description: string
  readonly memory: boolean
  readonly quiesce: boolean
  /** The caller's time-out for quiescing, minutes; what VMware Tools allow by themselves when absent. */
  readonly timeoutMinutes?: number | undefined
  /** What VSS of a Windows guest is told, in words; the guest's history has it. */
  readonly vss?: readonly string[] | undefined
  /** CancelTask: heeded until the redo logs are made. */
  readonly signal?: AbortSignal | undefined
}

/** VMware Tools give up a backup after so long when they are told nothing else. */
const TOOLS_MINUTES = 15

/**
 * Takes a snapshot: the guest is frozen if it can be, all redo logs are made under one stun, the record is durable before the guest goes
 * on. A VM that is off, or has no running Tools, is silently not quiesced, as on a real host. Faults: the snapshot family, NoDiskSpace,
 * TooManySnapshotLevels. Any failure leaves no redo log behind.
 */
export async function createSnapshot(model: Model, vm: VmRecord, machine: Machine, wish: SnapshotWish): Promise<SnapshotRecord> {
  const disks = disksOf(vm.config).filter((disk) => !isIndependent(disk))
  refuseSnapshot(vm, wish)
  const rule = wish.quiesce ? model.rules.strike({ names: model.names(vm) }, 'quiesce')[0]?.quiesce : undefined
  const able = wish.quiesce && vm.power === 'poweredOn' && vm.tools === 'running' && rule !== 'silent'
  if (able && rule === 'application') {
    throw new VimFault(
      'ApplicationQuiesceFault',
      {},
      'An error occurred while quiescing the virtual machine: a pre-freeze script ended with 1.',
    )
  }
  let frozen: Frozen | undefined
  let quiesced = able
  const links = new Map<number, string>()
  const number = vm.nextSnapshotNumber
  try {
    if (able) frozen = await quiesce(model, vm, machine, wish, rule === 'hang')
    throwIfAborted(wish)
    const snapshot: SnapshotRecord = {
      id: model.world.newId('snapshot-'),
      number,
      name: wish.name,
      description: wish.description,
      createdAt: model.world.now().toISOString(),
      quiesced: able,
      power: wish.memory ? vm.power : vm.power === 'suspended' ? 'suspended' : 'poweredOff',
      parent: vm.currentSnapshot,
      config: structuredClone(vm.config),
    }
    for (const disk of disks) links.set(disk.key, nextLink(model, disk))
    vm.pending = { kind: 'snapshot', links: [...links.values()] }
    await model.world.keep(vm)
    {
      using _stunned = machine.guest.stun()
      enableTracking(machine, vm)
      for (const disk of disks) addLink(model, machine, disk, links.get(disk.key) ?? '', snapshot)
      snapshot.config.devices = snapshot.config.devices.filter((device) => device.kind !== 'disk' || !isIndependent(device))
      snapshot.config.extraConfig = { ...vm.config.extraConfig }
      if (frozen === undefined || frozen.thaw().held) quiesced = able
      else quiesced = false
      frozen = undefined
      if ((able && !quiesced) || (able && rule === 'timeout')) {
        throw new VimFault(
          'FilesystemQuiesceFault',
          {},
          'An error occurred while quiescing the virtual machine: the guest did not hold still until the snapshot was made.',
        )
      }
      vm.snapshots.push(snapshot)
      notePeak(model, vm)
      vm.currentSnapshot = snapshot.id
      vm.nextSnapshotNumber = number + 1
      vm.pending = undefined
      writeVmx(model, vm)
      writeSnapshotFiles(model, vm, snapshot, wish.memory)
      await model.world.keep(vm, 'snapshot', 'rootSnapshot', 'config', 'layoutEx', 'storage', 'summary')
    }
    if (model.world.lab.scenario.recordDigests) recordDigests(model, vm, machine, snapshot)
    return snapshot
  } catch (error) {
    frozen?.thaw()
    await undoLinks(model, vm, machine, disks, links)
    if (able) await model.world.keep(vm)
    throw error instanceof QuiesceError ? quiesceFault(error) : storageFault(error, vm.path)
  }
}

/** How many snapshots are open on each of the VM's datastores. */
function notePeak(model: Model, vm: VmRecord): void {
  const stores = (record: VmRecord): Set<string> =>
    new Set(disksOf(record.config).flatMap((disk) => /^\[([^\]]*)\]/.exec(disk.chain[0]?.path ?? '')?.[1] ?? []))
  for (const store of stores(vm)) {
    const open = [...model.world.vms()].filter((other) => other.snapshots.length > 0 && stores(other).has(store))
    model.peaks.note(
      `open snapshots on ${store}`,
      open.reduce((sum, other) => sum + other.snapshots.length, 0),
    )
  }
}

function refuseSnapshot(vm: VmRecord, wish: SnapshotWish): void {
  if (vm.template) throw new VimFault('NotSupported', {}, 'A template cannot be snapshotted.')
  if (wish.name === '' || wish.name.length > 80 * 4)
    throw new VimFault('InvalidName', { name: wish.name }, `The name '${wish.name}' is not valid.`)
  const disks = disksOf(vm.config)
  if (
    disks.some((disk) => disk.sharing === 'sharingMultiWriter') ||
    vm.config.devices.some((device) => device.kind === 'controller' && device.sharedBus !== 'noSharing')
  ) {
    throw new VimFault(
      'SnapshotIncompatibleDeviceInVm',
      { fault: { $type: 'LocalizedMethodFault', fault: { $type: 'NotSupported' } } },
      'A disk is on a shared bus or has several writers.',
    )
  }
  if (wish.memory && vm.power === 'poweredOn' && disks.some((disk) => disk.mode.startsWith('independent') && disk.rdm === undefined)) {
    throw new VimFault(
      'MemorySnapshotOnIndependentDisk',
      { fault: { $type: 'LocalizedMethodFault', fault: { $type: 'NotSupported' } } },
      'Memory cannot be in a snapshot of a VM with independent disks.',
    )
  }
  if (depth(vm) >= 32) throw new VimFault('TooManySnapshotLevels', {}, 'The virtual machine has too many levels of snapshots (32).')
}

function depth(vm: VmRecord): number {
  let levels = 0
  for (let at = vm.currentSnapshot; at !== undefined; levels++) at = vm.snapshots.find((snapshot) => snapshot.id === at)?.parent
  return levels
}

/**
 * Freezes the guest, for its own limit at most; the whole of quiescing is bounded by the caller's time-out. `hang`: the host then never comes to
 * the thaw, until the time-out or CancelTask.
 */
async function quiesce(model: Model, vm: VmRecord, machine: Machine, wish: SnapshotWish, hang: boolean): Promise<Frozen> {
  const timeoutMs = (wish.timeoutMinutes ?? TOOLS_MINUTES) * (model.world.lab.scenario.quiesceMinuteMs ?? 60_000)
  const until = model.clock.monotonicMs() + timeoutMs
  const holdMs = vm.freezeLimitSeconds * 1000
  const { signal } = wish
  if (vm.freezeMs > 0) await model.clock.sleep(Math.min(vm.freezeMs, holdMs, timeoutMs), { signal })
  if (vm.freezeMs > Math.min(holdMs, timeoutMs)) throw new VimFault('FilesystemQuiesceFault', {}, 'The guest did not become still in time.')
  machine.system.vss = /^win/i.test(vm.config.guestId) ? wish.vss : undefined
  const frozen = await machine.guest.quiesce(holdMs, { signal })
  if (!hang) return frozen
  try {
    await model.world.keep(vm)
    await model.clock.sleep(Math.max(0, until - model.clock.monotonicMs()), { signal })
    throw new VimFault('FilesystemQuiesceFault', {}, 'An error occurred while quiescing the virtual machine: the time limit was exceeded.')
  } finally {
    frozen.thaw()
  }
}

const quiesceFault = (error: QuiesceError): VimFault =>
  new VimFault(error.fault, {}, `An error occurred while quiescing the virtual machine: ${error.message}`)

/** `x-000003.vmdk` beside the disk's base, with the next number that no file has. */
function nextLink(model: Model, disk: DiskRecord): string {
  const base = disk.chain.at(-1)?.path ?? ''
  const stem = basename(baseName(base), '.vmdk')
  const names = new Set(model.files.list(directoryOf(base)))
  for (let number = 1; ; number++) {
    const name = `${stem}-${String(number).padStart(6, '0')}.vmdk`
    if (!names.has(name)) return within(directoryOf(base), name)
  }
}

function addLink(model: Model, machine: Machine, disk: DiskRecord, link: string, snapshot: SnapshotRecord): void {
  const open = machine.disk(disk.key)
  if (open === undefined) return
  const added = faulting(link, () => open.addRedoLog(model.files.at(link).path))
  const frozen = disksOf(snapshot.config).find((candidate) => candidate.key === disk.key)
  if (frozen !== undefined) frozen.changeId = added.changeId
  machine.takeChain(disk)
}

/** The snapshot did not come to be: what was put on top is taken off again, writes included. */
async function undoLinks(
  model: Model,
  vm: VmRecord,
  machine: Machine,
  disks: readonly DiskRecord[],
  links: ReadonlyMap<number, string>,
): Promise<void> {
  for (const disk of disks) {
    const link = links.get(disk.key)
    const open = machine.disk(disk.key)
    if (link === undefined || open === undefined) continue
    const { path } = model.files.at(link)
    if (open.chain.includes(path)) await faultingAsync(link, () => open.commit(path))
    machine.takeChain(disk)
  }
  if (vm.pending === undefined) return
  vm.pending = undefined
  await model.world.keep(vm, 'config')
}

function writeSnapshotFiles(model: Model, vm: VmRecord, snapshot: SnapshotRecord, memory: boolean): void {
  const stem = basename(baseName(vm.path), '.vmx')
  const data = within(directoryOf(vm.path), `${stem}-Snapshot${snapshot.number}`)
  writeFileSync(model.files.local(`${data}.vmsn`), `${JSON.stringify({ snapshot: snapshot.name, createdAt: snapshot.createdAt })}\n`)
  if (memory && vm.power === 'poweredOn') writeFileSync(model.files.local(`${data}.vmem`), '')
  writeVmsd(model, vm)
}

/** The snapshot list a host keeps beside the VMX. */
function writeVmsd(model: Model, vm: VmRecord): void {
  const stem = basename(baseName(vm.path), '.vmx')
  const lines = [
    '.encoding = "UTF-8"',
    `snapshot.lastUID = "${vm.nextSnapshotNumber - 1}"`,
    `snapshot.numSnapshots = "${vm.snapshots.length}"`,
  ]
  vm.snapshots.forEach((snapshot, index) => {
    const quoted = (text: string): string =>
      text.replace(/["|\p{Cc}]/gu, (character) => `|${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
    lines.push(
      `snapshot${index}.uid = "${snapshot.number}"`,
      `snapshot${index}.displayName = "${quoted(snapshot.name)}"`,
      `snapshot${index}.filename = "${stem}-Snapshot${snapshot.number}.vmsn"`,
    )
    disksOf(snapshot.config).forEach((disk, at) =>
      lines.push(`snapshot${index}.disk${at}.fileName = "${baseName(disk.chain[0]?.path ?? '[x] x')}"`),
    )
  })
  writeFileSync(model.files.local(within(directoryOf(vm.path), `${stem}.vmsd`)), `${lines.join('\n')}\n`)
}

export type RemovalOptions = {
  readonly children: boolean
  readonly consolidate: boolean
  readonly onProgress?: ((percent: number) => void) | undefined
}

/**
 * Removes a snapshot. The tree changes first and durably, with `consolidationNeeded` set; then the redo logs are committed. So a crash or a
 * lock in between leaves what it leaves on a real host: no snapshot, and files that consolidation takes away.
 */
export async function removeSnapshot(
  model: Model,
  vm: VmRecord,
  machine: Machine,
  snapshot: SnapshotRecord,
  options: RemovalOptions,
): Promise<void> {
  await settleDigests(model, vm)
  const gone = new Set<string>([snapshot.id])
  if (options.children) for (const other of vm.snapshots) if (other.parent !== undefined && gone.has(other.parent)) gone.add(other.id)
  const parentOf = (id: string | undefined): string | undefined => {
    let at = id
    while (at !== undefined && gone.has(at)) at = vm.snapshots.find((candidate) => candidate.id === at)?.parent
    return at
  }
  const stem = basename(baseName(vm.path), '.vmx')
  const numbers = vm.snapshots.filter((candidate) => gone.has(candidate.id)).map((candidate) => candidate.number)
  vm.currentSnapshot = parentOf(vm.currentSnapshot)
  for (const other of vm.snapshots) if (!gone.has(other.id)) other.parent = parentOf(other.parent)
  vm.snapshots = vm.snapshots.filter((candidate) => !gone.has(candidate.id))
  vm.consolidationNeeded = surplus(vm).length > 0
  for (const number of numbers)
    for (const kind of ['vmsn', 'vmem'])
      rmSync(model.files.local(within(directoryOf(vm.path), `${stem}-Snapshot${number}.${kind}`)), { force: true })
  writeVmsd(model, vm)
  await model.world.keep(vm, 'snapshot', 'rootSnapshot', 'runtime', 'layoutEx', 'summary')
  if (!options.consolidate || model.rules.strike({ names: model.names(vm) }, 'consolidationNeeded').length > 0) return
  await consolidate(model, vm, machine, options.onProgress)
}

/** Links of the running chains that no snapshot freezes, each with the link above it that is to be committed into it. Deepest first. */
function surplus(vm: VmRecord): { disk: DiskRecord; into: string; from: string }[] {
  const found: { disk: DiskRecord; into: string; from: string }[] = []
  for (const disk of disksOf(vm.config)) {
    if (disk.foreign) continue
    const others = vm.snapshots.map((snapshot) => disksOf(snapshot.config).find((candidate) => candidate.key === disk.key)?.chain ?? [])
    for (let index = disk.chain.length - 1; index > 0; index--) {
      const into = disk.chain[index]?.path ?? ''
      const from = disk.chain[index - 1]?.path ?? ''
      const frozen = others.some((chain) => chain[0]?.path === into)
      const branched = others.some((chain) => {
        const at = chain.findIndex((link) => link.path === into)
        return at > 0 && chain[at - 1]?.path !== from
      })
      if (!frozen && !branched) found.push({ disk, into, from })
    }
  }
  return found
}

/** Commits every redo log that belongs to no snapshot and deletes its files; also links of branches nobody needs. Faults FileLocked, NoDiskSpace. */
export async function consolidate(model: Model, vm: VmRecord, machine: Machine, onProgress?: (percent: number) => void): Promise<void> {
  await settleDigests(model, vm)
  try {
    const all = surplus(vm)
    if (all.length > 0)
      model.checkLocks(
        vm,
        all.flatMap(({ into, from }) => [into, from]),
      )
    // Branches nobody needs go first: a link with another child cannot take in a commit.
    dropUnusedFiles(model, vm)
    let done = 0
    for (const { disk, from } of all) {
      const open = machine.disk(disk.key)
      if (open === undefined) throw fileLocked(from)
      const { path } = model.files.at(from)
      await faultingAsync(from, () =>
        open.commit(path, {
          persist: async () => {
            dropLink(vm, disk.key, from)
            writeVmx(model, vm)
            await model.world.keep(vm)
          },
          onProgress: (part) => onProgress?.(50 + ((done + part) / all.length) * 49),
        }),
      )
      done++
      dropLink(vm, disk.key, from)
      machine.takeChain(disk)
      await model.world.keep(vm)
    }
    vm.consolidationNeeded = false
    if (vm.config.changeTracking !== vm.trackingActive) enableTracking(machine, vm)
    writeVmx(model, vm)
  } catch (error) {
    vm.consolidationNeeded = surplus(vm).length > 0
    await model.world.keep(vm, 'runtime', 'config', 'layoutEx')
    throw error
  }
  await model.world.keep(vm, 'runtime', 'config', 'layoutEx', 'storage', 'summary')
}

/** A committed link is in no chain any more; who named it as its own file now names the one below. */
function dropLink(vm: VmRecord, key: number, path: string): void {
  for (const config of [vm.config, ...vm.snapshots.map((snapshot) => snapshot.config)]) {
    for (const disk of disksOf(config)) if (disk.key === key) disk.chain = disk.chain.filter((link) => link.path !== path)
  }
}

/** Redo logs beside the VM's disks that no configuration leads to. */
function dropUnusedFiles(model: Model, vm: VmRecord): void {
  const needed = new Set(
    [vm.config, ...vm.snapshots.map((snapshot) => snapshot.config)].flatMap((config) =>
      disksOf(config).flatMap((disk) => disk.chain.map((link) => link.path)),
    ),
  )
  for (const disk of disksOf(vm.config)) {
    const base = disk.chain.at(-1)?.path
    if (base === undefined || disk.foreign) continue
    const stem = basename(baseName(base), '.vmdk')
    for (const name of model.files.list(directoryOf(base))) {
      const path = within(directoryOf(base), name)
      if (!needed.has(path) && name.startsWith(stem) && /^-\d{6}\.vmdk$/.test(name.slice(stem.length))) deleteLink(model, path)
    }
  }
}

export function deleteLink(model: Model, path: string): void {
  const at = model.files.at(path)
  faulting(path, () => deleteDisk(at.store, at.path))
}

/**
 * Puts the VM back to a snapshot: the writes since are gone, the configuration is the snapshot's, the VM is off unless the snapshot has its
 * memory. Change tracking begins anew.
 */
export async function revertTo(model: Model, vm: VmRecord, snapshot: SnapshotRecord): Promise<void> {
  await settleDigests(model, vm)
  await model.close(vm)
  const before = vm.config
  vm.power = snapshot.power
  vm.bootTime = snapshot.power === 'poweredOn' ? model.world.now().toISOString() : undefined
  const config: ConfigRecord = structuredClone(snapshot.config)
  config.changeVersion = before.changeVersion + 1
  config.modified = model.world.now().toISOString()
  config.devices.push(...structuredClone(disksOf(before).filter(isIndependent)))
  vm.config = config
  vm.currentSnapshot = snapshot.id
  // The machine opens at the old tops so that storage drops them; disks added since have gone from the configuration.
  for (const disk of disksOf(config)) {
    const old = disksOf(before).find((candidate) => candidate.key === disk.key)
    const kept = disksOf(snapshot.config).find((candidate) => candidate.key === disk.key)
    if (old !== undefined && kept !== undefined && !isIndependent(disk)) disk.chain = structuredClone(old.chain)
  }
  const machine = await model.machine(vm)
  await machine.use(async () => {
    for (const disk of disksOf(vm.config)) {
      const frozen = disksOf(snapshot.config).find((candidate) => candidate.key === disk.key)?.chain[0]?.path
      const open = machine.disk(disk.key)
      if (frozen === undefined || open === undefined || isIndependent(disk)) continue
      const at = model.files.at(frozen)
      faulting(frozen, () => (open.top === at.path ? open.addRedoLog(model.files.at(nextLink(model, disk)).path) : open.revert(at.path)))
      machine.takeChain(disk)
    }
    dropUnusedFiles(model, vm)
    vm.consolidationNeeded = surplus(vm).length > 0
    writeVmx(model, vm)
    await model.world.keep(vm, 'snapshot', 'runtime', 'config', 'summary', 'guest', 'layoutEx')
  })
}

/** A redo log of a snapshot that never came to be: into its parent with it, should the guest have written; what cannot be opened was not finished. */
async function takeBack(model: Model, vm: VmRecord, link: string): Promise<void> {
  const at = model.files.at(link)
  try {
    using disk = LabDisk.open(at.store, at.path)
    await disk.commit(at.path)
  } catch (error) {
    model.log.warn('an unfinished redo log was deleted', { vm: vm.config.name, link, error: String(error) })
    deleteLink(model, link)
  }
}

/** After a crash: redo logs of a snapshot that was never recorded go, chains are read from the files. */
export async function recoverVm(model: Model, vm: VmRecord): Promise<void> {
  const locks = vm.disabledMethods.filter((entry) => entry.session === undefined)
  if (!vm.materialised && locks.length === vm.disabledMethods.length) return
  // Locks of a session end with it, and no session outlives the process.
  vm.disabledMethods = locks
  // What was being written beside its place when the process was killed.
  const paths = [vm.path, ...disksOf(vm.config).flatMap((disk) => disk.chain.map((link) => link.path))]
  for (const directory of new Set(paths.map(directoryOf))) {
    for (const name of model.files.list(directory))
      if (name.endsWith('~')) rmSync(model.files.local(within(directory, name)), { force: true })
  }
  for (const link of vm.pending?.links ?? []) {
    if (vm.pending?.kind === 'attach') rmSync(model.files.local(link), { force: true })
    else if (model.files.exists(link)) await takeBack(model, vm, link)
  }
  vm.pending = undefined
  if (vm.frozenSince !== undefined) {
    // The guest's processor stood still with the lab; it is thawed now at the latest.
    vm.longestFreezeMs = Math.max(vm.longestFreezeMs ?? 0, model.world.now().getTime() - Date.parse(vm.frozenSince))
    vm.frozenSince = undefined
  }
  for (const config of [vm.config, ...vm.snapshots.map((snapshot) => snapshot.config)]) {
    for (const disk of disksOf(config)) {
      const present = disk.chain.filter((link) => model.files.exists(link.path))
      if (present.length > 0) disk.chain = present
    }
  }
  vm.consolidationNeeded ||= surplus(vm).length > 0
  await model.world.keep(vm)
}
