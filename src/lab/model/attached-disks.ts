import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { copyImage, type HotaddQuirk, ProxyGuest, type ShownDisk } from '../proxy/index.ts'
import { diskInfo, openView } from '../storage/index.ts'
import { VimFault } from '../wire/index.ts'
import { baseName, directoryOf, within } from './datastore-path.ts'
import { fileLocked } from './faults.ts'
import { faulting } from './files.ts'
import type { Model } from './model.ts'
import { type ConfigRecord, type DiskRecord, disksOf, type VmRecord } from './record.ts'

/**
 * Disks that are attached to a VM by another VM's files: the redo log that a nonpersistent one has beside its source, and what the guests of proxy VMs see
 * of them. What a change of the configuration adds is made before it is written down and shown after it; what it takes away goes the other way round.
 */
export class AttachedDisks implements AsyncDisposable {
  readonly #model: Model
  readonly #guests = new Map<string, ProxyGuest>()

  constructor(model: Model) {
    this.#model = model
  }

  /** The guest of a proxy VM that runs in this lab. */
  guest(vm: VmRecord): ProxyGuest | undefined {
    return this.#guests.get(vm.id)
  }

  /** At the start of the lab: what was attached is attached. */
  async boot(vm: VmRecord): Promise<void> {
    if (vm.proxy === undefined) return
    const { clock, log, world } = this.#model
    const facts = {
      biosUuid: vm.config.uuid,
      enableUuid: vm.config.extraConfig['disk.EnableUUID']?.toUpperCase() === 'TRUE',
      buses: scsiBuses(vm.config),
      nvme: busesOf(vm.config, NVME_KEYS, Number.POSITIVE_INFINITY),
    }
    const guest = new ProxyGuest(join(world.directory, 'proxy', vm.id), facts, { clock, log, files: vm.proxy === 'file' })
    this.#guests.set(vm.id, guest)
    for (const disk of disksOf(vm.config)) if (disk.redo !== undefined) await this.#image(vm, disk)
    await guest.boot(disksOf(vm.config).map((disk) => this.#shown(vm, vm.config, disk)))
  }

  /**
   * Refuses a disk that somebody else holds: another VM that runs with it as its current file, or any two of whom one writes. Fault FileLocked.
   */
  refuse(vm: VmRecord, disk: DiskRecord): void {
    const path = disk.chain[0]?.path ?? ''
    const files = new Set(disk.chain.flatMap((link) => this.#model.files.ofLink(link)))
    const writes = disk.mode !== 'independent_nonpersistent'
    for (const file of files) if (this.#model.holds.of(file)?.mode === 'exclusive') throw fileLocked(path)
    for (const other of this.#model.world.vms()) {
      for (const held of disksOf(other.config)) {
        const at = held.chain.findIndex((link) => link.path === path)
        if (at < 0 || held === disk) continue
        if (other.id === vm.id) throw fileLocked(path)
        const itWrites = held.foreign ? held.redo === undefined : other.power === 'poweredOn' && at === 0
        const itReads = held.foreign || other.power === 'poweredOn'
        if (itWrites || (writes && itReads)) throw fileLocked(path)
        if (this.#model.rules.strike({ names: this.#model.names(other) }, 'lockHeld').length > 0) throw fileLocked(path)
      }
    }
    if (writes && disk.chain.length > 1) throw new VimFault('NotSupported', {}, 'The lab attaches no redo log for writing.')
  }

  /** Makes the redo log and the image of a disk that is about to be attached. Its path is written down by the caller before. */
  async prepare(vm: VmRecord, disk: DiskRecord): Promise<void> {
    if (disk.redo === undefined) return
    writeFileSync(this.#model.files.local(disk.redo), `nonpersistent redo log of ${vm.config.name}\n`, { mode: 0o600 })
    await this.#image(vm, disk)
  }

  /** The path of a new redo log beside the disk. */
  redoPath(disk: DiskRecord): string {
    const path = disk.chain[0]?.path ?? ''
    const word = this.#model.world.seeded.hex(6, 'redo', path, this.#model.world.newId(''))
    return within(directoryOf(path), `${baseName(path)}.REDO_${word}`)
  }

  async show(vm: VmRecord, disk: DiskRecord, quirk?: HotaddQuirk, value?: number): Promise<void> {
    await this.#guests.get(vm.id)?.show(this.#shown(vm, vm.config, disk), quirk, value)
  }

  async hide(vm: VmRecord, disk: DiskRecord): Promise<void> {
    await this.#guests.get(vm.id)?.hide(disk.key)
  }

  /** The redo log and the image of a disk that is attached no more. Idempotent. */
  discard(vm: VmRecord, redo: string): void {
    rmSync(this.#model.files.local(redo), { force: true })
    const guest = this.#guests.get(vm.id)
    if (guest !== undefined) rmSync(imageOf(guest, redo), { force: true })
  }

  /** The VM goes: nothing is attached to it any more. */
  async drop(vm: VmRecord): Promise<void> {
    await this.#guests.get(vm.id)?.[Symbol.asyncDispose]()
    for (const { redo } of disksOf(vm.config)) if (redo !== undefined) this.discard(vm, redo)
    this.#guests.delete(vm.id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const guest of this.#guests.values()) await guest[Symbol.asyncDispose]()
    this.#guests.clear()
  }

  /** Copies the disk as it is frozen, unless that has been done. Redo logs that a commit would take away are held by the attachment meanwhile. */
  async #image(vm: VmRecord, disk: DiskRecord): Promise<void> {
    const guest = this.#guests.get(vm.id)
    const top = disk.chain[0]
    if (guest === undefined || top === undefined || disk.redo === undefined) return
    const at = this.#model.files.at(top.path)
    using view = faulting(top.path, () => openView(at.store, at.path))
    await copyImage(
      { size: view.size, read: (offset, into) => view.read(offset, into), allocated: () => view.allocated() },
      imageOf(guest, disk.redo),
    )
  }

  #shown(vm: VmRecord, config: ConfigRecord, disk: DiskRecord): ShownDisk {
    const controller = config.devices.find((device) => device.kind === 'controller' && device.key === disk.controllerKey)
    const guest = this.#guests.get(vm.id)
    const image =
      !disk.foreign || guest === undefined ? undefined : disk.redo === undefined ? this.#flatFile(disk) : imageOf(guest, disk.redo)
    return {
      key: disk.key,
      kind: disk.controllerKey >= NVME_KEYS ? 'nvme' : 'scsi',
      bus: controller?.kind === 'controller' ? controller.bus : 0,
      unit: disk.unit,
      uuid: disk.uuid,
      capacityBytes: disk.capacity,
      image,
    }
  }

  /** A disk that is written to is its own image: what the guest writes is in the file. */
  #flatFile(disk: DiskRecord): string | undefined {
    const path = disk.chain[0]?.path
    if (path === undefined) return undefined
    const at = this.#model.files.at(path)
    const extent = faulting(path, () => diskInfo(at.store, at.path)).extents[0]
    return extent === undefined ? undefined : at.store.path(extent)
  }
}

const imageOf = (guest: ProxyGuest, redo: string): string => join(guest.images, `${baseName(redo)}.img`)

/** Keys of NVMe controllers begin here. */
const NVME_KEYS = 31_000

const busesOf = (config: ConfigRecord, from: number, below: number): number[] =>
  config.devices.flatMap((device) => (device.kind === 'controller' && device.key >= from && device.key < below ? [device.bus] : []))
export const scsiBuses = (config: ConfigRecord): number[] => busesOf(config, 1000, 15_000)
