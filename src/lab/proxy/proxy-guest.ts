import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock, Log } from '../../core/index.ts'
import type { HotaddQuirk } from './hotadd-quirks.ts'
import { attachLoop, detachLoops, loopsWork } from './loop-devices.ts'
import { SysfsTree, type TreeDisk } from './sysfs-tree.ts'

/** Between two looks at what the guest's user wrote into its sysfs, ms. */
const LOOK_MS = 20

export type ProxyFacts = {
  readonly biosUuid: string
  /** disk.EnableUUID: its disks show who they are. */
  readonly enableUuid: boolean
  /** Buses of its SCSI controllers. */
  readonly buses: readonly number[]
  /** Buses of its NVMe controllers. */
  readonly nvme: readonly number[]
}

/** A disk of the proxy VM, its own or attached. */
export type ShownDisk = {
  readonly key: number
  /** What the guest takes its controller for. */
  readonly kind: 'scsi' | 'nvme'
  readonly bus: number
  readonly unit: number
  readonly uuid: string
  readonly capacityBytes: number
  /** The raw image its node leads to; undefined for the VM's own disks, which nobody reads here. */
  readonly image: string | undefined
}

type Entry = { readonly disk: ShownDisk; readonly tree: TreeDisk; readonly stuck: boolean; shown: boolean }
type Hidden = { readonly disk: ShownDisk; readonly quirk: HotaddQuirk; readonly from: number }

/**
 * One proxy VM from the inside. Loop devices where this process may make them and the scenario does not ask for plain files; the nodes are gone when it
 * is disposed, the images stay with the state of the lab.
 */
export class ProxyGuest implements AsyncDisposable {
  readonly tree: SysfsTree
  /** Where images of attached disks lie. */
  readonly images: string
  readonly #clock: Clock
  readonly #log: Log
  readonly #loops: boolean
  readonly #facts: ProxyFacts
  readonly #entries = new Map<number, Entry>()
  readonly #hidden = new Map<number, Hidden>()
  #work: Promise<void> = Promise.resolve()
  #look: Disposable | undefined

  constructor(directory: string, facts: ProxyFacts, options: { readonly clock: Clock; readonly log: Log; readonly files: boolean }) {
    this.tree = new SysfsTree(directory)
    this.images = join(directory, 'images')
    this.#facts = facts
    this.#clock = options.clock
    this.#log = options.log
    this.#loops = !options.files && loopsWork()
  }

  /** The guest as it boots: with these disks, whatever was there before. Images of no disk go. */
  async boot(disks: readonly ShownDisk[]): Promise<void> {
    mkdirSync(this.images, { recursive: true })
    this.tree.make(littleEndian(this.#facts.biosUuid), this.#facts.buses.map(hostOf), this.#facts.nvme)
    for (const name of readdirSync(this.images)) {
      const path = join(this.images, name)
      if (this.#loops) await detachLoops(path)
      if (!disks.some((disk) => disk.image === path)) rmSync(path, { force: true })
    }
    for (const disk of disks) {
      // Of the process that was killed: it stands on the same file.
      if (this.#loops && disk.image !== undefined) await detachLoops(disk.image)
      if (disk.image === undefined || existsSync(disk.image)) await this.show(disk)
    }
    this.#look ??= this.#clock.every(
      LOOK_MS,
      () => this.#heed(),
      (error) => this.#log.warn('a proxy guest', { error: String(error) }),
    )
  }

  /** A disk was attached. */
  show(disk: ShownDisk, quirk?: HotaddQuirk, value = 0): Promise<void> {
    return this.#next(async () => {
      if (quirk === 'never') return
      if (quirk === 'late' || quirk === 'scan') {
        this.#hidden.set(disk.key, { disk, quirk, from: this.#clock.monotonicMs() + value })
        this.#scanned(disk)
      } else await this.#appear(disk, quirk)
    })
  }

  /** A disk was taken off: its node goes, whether or not the guest had let it go before. */
  hide(key: number): Promise<void> {
    return this.#next(async () => {
      this.#hidden.delete(key)
      const entry = this.#entries.get(key)
      if (entry === undefined) return
      this.#entries.delete(key)
      await this.#vanish(entry)
    })
  }

  /** Disks the guest shows now: name and device key. */
  get shown(): readonly { readonly key: number; readonly name: string }[] {
    return [...this.#entries].filter(([, entry]) => entry.shown).map(([key, entry]) => ({ key, name: entry.tree.name }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#look?.[Symbol.dispose]()
    await this.#next(async () => {
      for (const entry of this.#entries.values()) await this.#vanish(entry)
      this.#entries.clear()
      this.tree.drop()
    })
  }

  async #appear(disk: ShownDisk, quirk?: HotaddQuirk): Promise<void> {
    const host = hostOf(disk.bus)
    if (disk.kind === 'scsi') this.tree.addHost(host)
    const target = disk.image === undefined ? undefined : this.#loops ? await attachLoop(disk.image) : disk.image
    const uuid = disk.uuid.replaceAll('-', '').toLowerCase()
    const tree: TreeDisk = {
      ...(disk.kind === 'scsi'
        ? { address: `${host}:0:${disk.unit}:0`, name: this.#freeName() }
        : // One controller of vSphere is one of the guest, a disk a namespace of it; numbers of namespaces begin with 1.
          { nvme: disk.bus, nsid: disk.unit + 1, name: `nvme${disk.bus}n${disk.unit + 1}` }),
      uuid: this.#facts.enableUuid
        ? quirk === 'wrongDisk'
          ? uuid.replace(/.{4}$/, (end) => (end === 'dead' ? 'beef' : 'dead'))
          : uuid
        : undefined,
      capacityBytes: disk.capacityBytes + (quirk === 'wrongSize' ? 512 : 0),
      target,
    }
    this.tree.add(tree)
    this.#entries.set(disk.key, { disk, tree, stuck: quirk === 'stuck', shown: true })
  }

  async #vanish(entry: Entry): Promise<void> {
    if (entry.shown) this.tree.remove(entry.tree)
    entry.shown = false
    if (this.#loops && entry.disk.image !== undefined) await detachLoops(entry.disk.image)
  }

  /** What was written into the tree since the last look. */
  #heed(): Promise<void> {
    return this.#next(async () => {
      const scanned = new Set([...this.#hidden].filter(([, { disk }]) => this.#scanned(disk)).map(([key]) => key))
      for (const [key, { disk, quirk, from }] of this.#hidden) {
        if (quirk === 'scan' ? !scanned.has(key) : this.#clock.monotonicMs() < from) continue
        this.#hidden.delete(key)
        await this.#appear(disk)
      }
      for (const entry of this.#entries.values())
        if (entry.shown && !entry.stuck && this.tree.deleted(entry.tree)) await this.#vanish(entry)
    })
  }

  /** Whether somebody has asked for a look at this disk's controller since the last time. */
  #scanned({ kind, bus }: ShownDisk): boolean {
    return kind === 'scsi' ? this.tree.scanned(hostOf(bus)) : this.tree.rescanned(bus)
  }

  #freeName(): string {
    const used = new Set([...this.#entries.values()].map((entry) => entry.tree.name))
    for (let at = 0; ; at++) {
      const name = `sd${at < 26 ? '' : String.fromCodePoint(96 + Math.floor(at / 26))}${String.fromCodePoint(97 + (at % 26))}`
      if (!used.has(name)) return name
    }
  }

  #next(work: () => Promise<void>): Promise<void> {
    const done = this.#work.then(work)
    // The next one goes on whatever became of this one, which its own caller is told.
    this.#work = done.catch(() => undefined)
    return done
  }
}

/** A kernel counts its hosts otherwise than vSphere its buses: the first two are for SATA, the rest in the order of its own probing. */
const hostOf = (bus: number): number => 5 - bus

/** SMBIOS has the first three groups of a uuid as little-endian numbers; so firmware before version 2.6 of it shows them swapped. */
function littleEndian(uuid: string): string {
  const swap = (group: string): string => group.match(/../g)?.toReversed().join('') ?? ''
  return uuid
    .split('-')
    .map((group, index) => (index < 3 ? swap(group) : group))
    .join('-')
    .toUpperCase()
}
