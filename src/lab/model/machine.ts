import type { Clock, Log } from '../../core/index.ts'
import { Guest, type GuestAccount, type GuestProgram, GuestSystem, type ToolsState } from '../guest/index.ts'
import { diskInfo, type DiskView, LabDisk, openView } from '../storage/index.ts'
import { formatDatastorePath } from './datastore-path.ts'
import { faulting, type Files } from './files.ts'
import { type DiskRecord, disksOf, type LinkRecord, type VmRecord } from './record.ts'

/** Who may log in to a guest, and what can be run there. */
export type Programs = { readonly accounts: readonly GuestAccount[]; readonly programs: readonly GuestProgram[] }

export type MachineOptions = {
  readonly files: Files
  readonly clock: Clock
  readonly log: Log
  readonly seed: number
  readonly programs: Programs
}

/**
 * A VM's disks and guest while they are open. Disks stay open while the VM runs, otherwise only as long as someone uses them; the guest is
 * there as long as the disks are.
 */
export class Machine implements AsyncDisposable {
  readonly vm: VmRecord
  /** What runs in the guest besides its workload. */
  readonly system: GuestSystem
  readonly #options: MachineOptions
  readonly #disks = new Map<number, LabDisk>()
  #guest: Guest | undefined
  #users = 0
  #writing = false

  constructor(vm: VmRecord, options: MachineOptions) {
    this.vm = vm
    this.#options = options
    this.system = new GuestSystem({
      clock: options.clock,
      family: /^win/i.test(vm.config.guestId) ? 'windows' : 'linux',
      ...options.programs,
      lastRecord: () => this.#guest?.lastRecord ?? 0,
    })
  }

  get isOpen(): boolean {
    return this.#guest !== undefined
  }

  get frozen(): boolean {
    return this.#guest?.frozen ?? false
  }

  get stalled(): boolean {
    return this.#guest?.stalled ?? false
  }

  /** Runs work on the open disks; closes them afterwards when the VM is off and nobody else is at work. */
  async use<T>(work: (machine: this) => Promise<T> | T): Promise<T> {
    this.#users++
    try {
      this.#open()
      return await work(this)
    } finally {
      this.#users--
      await this.settle()
    }
  }

  /** Opens, starts, stops or closes what the power state asks for. Called after each change of power state or workload. */
  async settle(): Promise<void> {
    const on = this.vm.power === 'poweredOn'
    if (!on) this.system.powerOff()
    if (on && this.vm.workload > 0 && !this.#writing) {
      this.#open()
      this.#guest?.setRate(this.vm.workload)
      this.#guest?.start()
      this.#writing = true
    } else if (this.#writing && (!on || this.vm.workload === 0)) {
      this.#writing = false
      await this.#guest?.stop()
    }
    if (!on && this.#users === 0) await this.#close()
  }

  setRate(recordsPerSecond: number): void {
    this.#guest?.setRate(recordsPerSecond)
  }

  /** The open disk with this device key; undefined for one that cannot be opened (physical RDM). */
  disk(key: number): LabDisk | undefined {
    return this.#disks.get(key)
  }

  get guest(): Guest {
    if (this.#guest === undefined) throw new Error(`the disks of ${this.vm.config.name} are not open`)
    return this.#guest
  }

  /** Device keys of the disks the guest writes its records to, in the guest's order. */
  recordDisks(): DiskRecord[] {
    return disksOf(this.vm.config)
      .filter((disk) => disk.records && this.#disks.has(disk.key))
      .sort((a, b) => a.key - b.key)
  }

  /** Opens or drops disks after the configuration changed. */
  refresh(): void {
    if (!this.isOpen) return
    const wanted = new Set(disksOf(this.vm.config).map((disk) => disk.key))
    for (const [key, disk] of this.#disks) {
      if (wanted.has(key)) continue
      disk[Symbol.dispose]()
      this.#disks.delete(key)
    }
    this.#openDisks()
    this.#guest?.setDisks(this.#guestDisks())
  }

  /** Closes one disk's handles, to open it anew at another link. */
  drop(key: number): void {
    this.#disks.get(key)?.[Symbol.dispose]()
    this.#disks.delete(key)
  }

  /** The frozen view through a link: of the open chain when it is in it, else opened on its own. Dispose it. */
  view(disk: DiskRecord, link: LinkRecord): DiskView {
    const at = this.#options.files.at(link.path)
    return faulting(link.path, () => {
      const open = this.#disks.get(disk.key)
      return open !== undefined && open.datastore.name === at.store.name && open.chain.includes(at.path)
        ? open.view(at.path)
        : openView(at.store, at.path)
    })
  }

  /** Takes the chain as the files show it into the record: after an opening, a commit, a new redo log. */
  takeChain(disk: DiskRecord): void {
    const open = this.#disks.get(disk.key)
    if (open === undefined) return
    disk.chain = linksOf(open, disk)
    disk.changeId = open.tracking.enabled ? open.tracking.changeId : undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.system[Symbol.dispose]()
    await this.#close()
  }

  #open(): void {
    if (this.#guest !== undefined) return
    try {
      this.#openDisks()
      this.#guest = Guest.open(this.#guestDisks(), {
        clock: this.#options.clock,
        seed: (this.#options.seed ^ Number(this.vm.id.slice('vm-'.length))) >>> 0,
        recordsPerSecond: this.vm.workload,
        tools: toolsOf(this.vm),
        onFreeze: () => {
          this.system.note('frozen', this.system.vss === undefined ? {} : { vss: this.system.vss })
          this.vm.frozenSince = this.#options.clock.now().toISOString()
        },
        onThaw: (frozenMs) => {
          this.system.note('thawed')
          this.vm.frozenSince = undefined
          this.vm.longestFreezeMs = Math.max(this.vm.longestFreezeMs ?? 0, frozenMs)
        },
        onError: (error) => this.#options.log.warn('guest stopped writing', { vm: this.vm.config.name, error: String(error) }),
      })
    } catch (error) {
      this.#closeDisks()
      throw error
    }
  }

  #openDisks(): void {
    for (const disk of disksOf(this.vm.config)) {
      if (disk.rdm === 'physical' || disk.foreign || this.#disks.has(disk.key)) continue
      const top = disk.chain[0]
      if (top === undefined) continue
      const at = this.#options.files.at(top.path)
      this.#disks.set(
        disk.key,
        faulting(top.path, () => LabDisk.open(at.store, at.path)),
      )
      this.takeChain(disk)
    }
  }

  #guestDisks(): LabDisk[] {
    return this.recordDisks()
      .map((disk) => this.#disks.get(disk.key))
      .filter((disk) => disk !== undefined)
  }

  async #close(): Promise<void> {
    this.#writing = false
    await this.#guest?.[Symbol.asyncDispose]()
    this.#guest = undefined
    this.#closeDisks()
  }

  #closeDisks(): void {
    for (const disk of this.#disks.values()) disk[Symbol.dispose]()
    this.#disks.clear()
  }
}

export const toolsOf = (vm: VmRecord): ToolsState =>
  vm.power === 'poweredOn' ? vm.tools : vm.tools === 'notInstalled' ? 'notInstalled' : 'notRunning'

function linksOf(open: LabDisk, disk: DiskRecord): LinkRecord[] {
  return open.chain.map((path): LinkRecord => {
    const full = formatDatastorePath({ datastore: open.datastore.name, path })
    const known = disk.chain.find((link) => link.path === full)
    if (known !== undefined) return known
    const backing = diskInfo(open.datastore, path).backing
    const kind = backing === 'seSparse' ? 'sesparse' : backing === 'sparse' ? 'cowd' : 'flat'
    return { path: full, kind, contentId: 'ffffffffffffffffffffffffffffffff' }
  })
}
