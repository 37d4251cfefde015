import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError, type Clock, isMissing, writeFileAtomic } from '../../core/index.ts'
import type { Scenario, ScenarioVm } from '../scenario.ts'
import { directoryOf } from './datastore-path.ts'
import type {
  ComputeEntity,
  DatacenterEntity,
  DatastoreEntity,
  Entity,
  FolderEntity,
  HostEntity,
  NetworkEntity,
  StaticEntity,
} from './entity.ts'
import { buildInventory } from './inventory-build.ts'
import type { LabRecord, SnapshotRecord, VmRecord } from './record.ts'
import { createSeeded, type Seeded } from './seeded.ts'

/** What stays of a VM's file when it is removed: its id is never given again. */
type Deleted = { readonly deleted: true; readonly id: string; readonly leaving?: readonly string[] }

const deleted = (id: string, leaving: readonly string[]): Deleted => ({ deleted: true, id, leaving })

export type WorldListener = (entity: Entity, properties: readonly string[]) => void

/**
 * Everything the lab knows, in memory and on disk: `lab.json` and one file per VM that was changed since the scenario was read. A VM's file
 * is written before the change is told to anyone, so that what a client saw survives a crash.
 */
export class World {
  readonly directory: string
  readonly lab: LabRecord
  readonly seeded: Seeded
  readonly root: string
  readonly userSnapshots: ReadonlyMap<string, ScenarioVm['snapshots']>
  /** VMs whose files are made at the first touch. */
  readonly generated: ReadonlySet<string>
  readonly #clock: Clock
  readonly #entities = new Map<string, StaticEntity>()
  readonly #vms = new Map<string, VmRecord>()
  readonly #snapshots = new Map<string, string>()
  readonly #children = new Map<string, Set<string>>()
  readonly #listeners = new Set<WorldListener>()
  readonly #writes = new Map<string, Promise<void>>()
  readonly #leaving = new Map<string, readonly string[]>()
  /** VMs by home directory; empty when it has to be made anew. */
  readonly #homes = new Map<string, VmRecord>()

  private constructor(directory: string, lab: LabRecord, clock: Clock, made: string) {
    this.directory = directory
    this.lab = lab
    this.#clock = clock
    this.seeded = createSeeded(lab.scenario.seed)
    const built = buildInventory(lab.scenario, this.seeded, directory, made)
    this.root = built.root
    this.userSnapshots = built.userSnapshots
    this.generated = built.generated
    if (lab.nextId < built.nextId) lab.nextId = built.nextId
    for (const entity of built.entities) this.#entities.set(entity.id, entity)
    for (const folder of lab.folders) this.#entities.set(folder.id, { kind: 'folder', ...folder, holds: 'vm' })
    for (const entity of this.#entities.values()) this.#adopt(entity.id, entity.parent)
    for (const vm of built.vms) this.#put(vm)
  }

  /** Opens the lab in a directory, or makes a new one from the scenario. Errors: CONFIG when the directory's state is unreadable. */
  static async open(directory: string, scenario: () => Promise<Scenario>, clock: Clock): Promise<World> {
    await mkdir(join(directory, 'vms'), { recursive: true, mode: 0o700 })
    const path = join(directory, 'lab.json')
    const existing = await readJson<LabRecord & { made: string }>(path)
    if (existing !== undefined && existing.version !== 1) {
      throw new AgentError('CONFIG', `The lab in ${directory} was made by another version of vcb.`, { next: 'Choose another directory.' })
    }
    const made = existing?.made ?? clock.now().toISOString()
    const record: LabRecord & { made: string } = existing ?? { ...emptyLab(await scenario()), made }
    const world = new World(directory, record, clock, made)
    if (existing === undefined) await world.saveLab()
    await world.#load()
    return world
  }

  /** Writes `lab.json`. */
  async saveLab(): Promise<void> {
    await this.#serial('lab.json', () => writeFileAtomic(join(this.directory, 'lab.json'), JSON.stringify(this.lab)))
  }

  /** Keeps a changed VM and tells what changed. Resolves when it is durable. */
  async keep(vm: VmRecord, ...properties: readonly string[]): Promise<void> {
    this.#index(vm)
    await this.#serial(vm.id, () => writeFileAtomic(this.#file(vm.id), JSON.stringify(vm)))
    this.changed({ kind: 'vm', id: vm.id, record: vm }, ...properties)
  }

  /** Adds a new VM to the inventory. */
  async add(vm: VmRecord): Promise<void> {
    this.#put(vm)
    await this.keep(vm)
    this.#parentsChanged(vm)
  }

  /** Lets a VM that is being made be found by its id, before it is kept. */
  adopt(vm: VmRecord): void {
    this.#homes.clear()
    this.#vms.set(vm.id, vm)
  }

  /** Writes down a VM that is about to be made, with what a start after a crash must clean up; nobody is told of it yet. */
  async prepare(vm: VmRecord): Promise<void> {
    this.adopt(vm)
    await this.#serial(vm.id, () => writeFileAtomic(this.#file(vm.id), JSON.stringify(vm)))
  }

  /** A VM that did not come to be. */
  async abandon(vm: VmRecord): Promise<void> {
    this.#vms.delete(vm.id)
    this.#homes.clear()
    this.#children.get(vm.folder)?.delete(vm.id)
    await this.#serial(vm.id, () => rm(this.#file(vm.id), { force: true }))
  }

  /**
   * Takes a VM out of the inventory. `leaving` are local files and directories that the caller removes next, then calls `removed`; a start after
   * a crash finds them in `leftFiles`.
   */
  async remove(vm: VmRecord, leaving: readonly string[] = []): Promise<void> {
    this.#vms.delete(vm.id)
    this.#homes.clear()
    this.#children.get(vm.folder)?.delete(vm.id)
    for (const snapshot of vm.snapshots) this.#snapshots.delete(snapshot.id)
    await this.#serial(vm.id, () => writeFileAtomic(this.#file(vm.id), JSON.stringify(deleted(vm.id, leaving))))
    this.#parentsChanged(vm)
  }

  /** The files of a removed VM are gone. */
  async removed(id: string): Promise<void> {
    this.#leaving.delete(id)
    await this.#serial(id, () => writeFileAtomic(this.#file(id), JSON.stringify(deleted(id, []))))
  }

  /** Files of VMs that were being removed when the last process of this lab ended, by VM. */
  get leftFiles(): ReadonlyMap<string, readonly string[]> {
    return this.#leaving
  }

  /** Moves a VM between folders. */
  async move(vm: VmRecord, folder: string): Promise<void> {
    this.#children.get(vm.folder)?.delete(vm.id)
    this.#parentsChanged(vm)
    vm.folder = folder
    this.#adopt(vm.id, folder)
    await this.keep(vm, 'parent')
    this.#parentsChanged(vm)
  }

  async addFolder(name: string, parent: string): Promise<FolderEntity> {
    const folder: FolderEntity = { kind: 'folder', id: this.newId('group-v'), name, parent, holds: 'vm' }
    this.#entities.set(folder.id, folder)
    this.#adopt(folder.id, parent)
    this.lab.folders.push({ id: folder.id, name, parent })
    await this.saveLab()
    this.#told(parent, 'childEntity')
    return folder
  }

  async removeFolder(folder: FolderEntity): Promise<void> {
    this.#entities.delete(folder.id)
    if (folder.parent !== undefined) this.#children.get(folder.parent)?.delete(folder.id)
    this.lab.folders = this.lab.folders.filter((kept) => kept.id !== folder.id)
    await this.saveLab()
    if (folder.parent !== undefined) this.#told(folder.parent, 'childEntity')
  }

  /** The next unused id with a prefix; `lab.json` is written by whoever uses it next. */
  newId(prefix: string): string {
    const number = this.lab.nextId++
    return `${prefix}${number}`
  }

  vm(id: string): VmRecord | undefined {
    return this.#vms.get(id)
  }

  vms(): Iterable<VmRecord> {
    return this.#vms.values()
  }

  get vmCount(): number {
    return this.#vms.size
  }

  entity(id: string): Entity | undefined {
    const found = this.#entities.get(id)
    if (found !== undefined) return found
    const record = this.#vms.get(id)
    if (record !== undefined) return { kind: 'vm', id, record }
    const owner = this.#snapshots.get(id)
    return owner === undefined ? undefined : { kind: 'snapshot', id, vm: owner }
  }

  /** The snapshot with this id and its VM. */
  snapshot(id: string): { vm: VmRecord; snapshot: SnapshotRecord } | undefined {
    const vm = this.#vms.get(this.#snapshots.get(id) ?? '')
    const snapshot = vm?.snapshots.find((candidate) => candidate.id === id)
    return vm === undefined || snapshot === undefined ? undefined : { vm, snapshot }
  }

  children(id: string): readonly string[] {
    return [...(this.#children.get(id) ?? [])]
  }

  of<K extends StaticEntity['kind']>(kind: K): Extract<StaticEntity, { kind: K }>[] {
    const is = (entity: StaticEntity): entity is Extract<StaticEntity, { kind: K }> => entity.kind === kind
    return [...this.#entities.values()].filter(is)
  }

  /** The datacenter above anything. */
  datacenterOf(id: string): DatacenterEntity | undefined {
    for (let at = this.entity(id); at !== undefined; ) {
      if (at.kind === 'datacenter') return at
      const parent: string | undefined = at.kind === 'vm' ? at.record.folder : at.kind === 'snapshot' ? at.vm : at.parent
      at = parent === undefined ? undefined : this.entity(parent)
    }
    return undefined
  }

  datastore(name: string): DatastoreEntity | undefined {
    return this.of('datastore').find((store) => store.name === name)
  }

  host(id: string): HostEntity | undefined {
    const found = this.#entities.get(id)
    return found?.kind === 'host' ? found : undefined
  }

  network(name: string, datacenter: string | undefined): NetworkEntity | undefined {
    return this.of('network').find((network) => network.name === name && this.datacenterOf(network.id)?.id === datacenter)
  }

  computeOf(host: string): ComputeEntity | undefined {
    return this.of('compute').find((compute) => compute.hosts.includes(host))
  }

  vmOfPath(path: string): VmRecord | undefined {
    for (const vm of this.#vms.values()) if (vm.path === path) return vm
    return undefined
  }

  /** The VM whose home is this directory (`[ds] dir`); asked for every file request. */
  vmInDirectory(directory: string): VmRecord | undefined {
    if (this.#homes.size === 0) for (const vm of this.#vms.values()) this.#homes.set(directoryOf(vm.path), vm)
    return this.#homes.get(directory)
  }

  changed(entity: Entity, ...properties: readonly string[]): void {
    for (const listener of this.#listeners) listener(entity, properties)
  }

  subscribe(listener: WorldListener): void {
    this.#listeners.add(listener)
  }

  now(): Date {
    return this.#clock.now()
  }

  /** Resolves when everything begun is on disk. */
  async settled(): Promise<void> {
    await Promise.all(this.#writes.values())
  }

  #file(id: string): string {
    return join(this.directory, 'vms', `${id}.json`)
  }

  #put(vm: VmRecord): void {
    this.#homes.clear()
    this.#vms.set(vm.id, vm)
    this.#adopt(vm.id, vm.folder)
    this.#index(vm)
  }

  #index(vm: VmRecord): void {
    for (const snapshot of vm.snapshots) this.#snapshots.set(snapshot.id, vm.id)
    for (const [id, owner] of this.#snapshots) {
      if (owner === vm.id && !vm.snapshots.some((snapshot) => snapshot.id === id)) this.#snapshots.delete(id)
    }
  }

  #adopt(id: string, parent: string | undefined): void {
    if (parent === undefined) return
    const siblings = this.#children.get(parent) ?? new Set<string>()
    siblings.add(id)
    this.#children.set(parent, siblings)
  }

  #parentsChanged(vm: VmRecord): void {
    this.#told(vm.folder, 'childEntity')
    this.#told(vm.host, 'vm')
    if (vm.pool !== undefined) this.#told(vm.pool, 'vm')
    for (const store of this.of('datastore')) this.changed(store, 'vm')
  }

  #told(id: string, ...properties: readonly string[]): void {
    const entity = this.entity(id)
    if (entity !== undefined) this.changed(entity, ...properties)
  }

  async #load(): Promise<void> {
    for (const name of await readdir(join(this.directory, 'vms'))) {
      if (!name.endsWith('.json')) continue
      const record = await readJson<VmRecord | Deleted>(join(this.directory, 'vms', name))
      if (record === undefined) continue
      const built = this.#vms.get(record.id)
      if (built !== undefined) this.#children.get(built.folder)?.delete(built.id)
      if ('deleted' in record) {
        this.#vms.delete(record.id)
        if (record.leaving !== undefined && record.leaving.length > 0) this.#leaving.set(record.id, record.leaving)
      } else this.#put(record)
      this.#beyond(record)
    }
  }

  /** Ids given out before a crash are never given again. */
  #beyond(record: VmRecord | { id: string }): void {
    const ids = [record.id, ...('snapshots' in record ? record.snapshots.map((snapshot) => snapshot.id) : [])]
    for (const id of ids) this.lab.nextId = Math.max(this.lab.nextId, Number(/(\d+)$/.exec(id)?.[1] ?? 0) + 1)
  }

  /** Writes of one file follow each other. */
  async #serial(key: string, write: () => Promise<void>): Promise<void> {
    const before = this.#writes.get(key)
    const run = (async () => {
      // The earlier write's own caller hears of its failure; this one writes the newer state all the same.
      if (before !== undefined) await before.then(undefined, () => undefined)
      await write()
    })()
    this.#writes.set(key, run)
    try {
      await run
    } finally {
      if (this.#writes.get(key) === run) this.#writes.delete(key)
    }
  }
}

function emptyLab(scenario: Scenario): LabRecord {
  const seeded = createSeeded(scenario.seed)
  return {
    version: 1,
    vcenterUuid: seeded.uuid('vcenter', scenario.name),
    esxiUuid: seeded.uuid('esxi', scenario.name),
    scenario,
    nextId: 1,
    ports: { vcenter: 0, esxi: 0 },
    customFields: [],
    folders: [],
    tagIds: {},
  }
}

async function readJson<T>(path: string): Promise<T | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  try {
    return JSON.parse(text) as T
  } catch (error) {
    throw new AgentError('CONFIG', `${path} is damaged.`, { subject: path, cause: error, next: 'Choose another directory for the lab.' })
  }
}
