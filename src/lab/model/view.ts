import { ChangeFeed, labRef, type LabKind, type LabRef, type Tasks } from '../wire/index.ts'
import type { DatacenterEntity, DatastoreEntity, Entity, HostEntity } from './entity.ts'
import type { SnapshotRecord, VmRecord } from './record.ts'
import type { World } from './world.ts'

/**
 * One endpoint's sight of the world: which entities it shows and by which references. The vCenter shows every datacenter that is not
 * standalone under the world's own ids; the ESXi endpoint shows one host with the ids a host gives out.
 */
export class View {
  readonly kind: LabKind
  readonly world: World
  readonly feed = new ChangeFeed()
  /** The ESXi endpoint's host; its datacenter. */
  readonly host: HostEntity | undefined
  readonly datacenter: DatacenterEntity | undefined
  /** Set once by the composition; recentTask of entities. */
  tasks: Tasks | undefined
  readonly #byId = new Map<string, string>()

  constructor(kind: LabKind, world: World, host?: HostEntity) {
    this.kind = kind
    this.world = world
    this.host = host
    this.datacenter = host === undefined ? undefined : world.datacenterOf(host.id)
    if (kind === 'esxi') {
      for (const kind of ['folder', 'datacenter', 'compute', 'pool', 'host', 'network', 'datastore'] as const) {
        for (const entity of world.of(kind)) if (this.shows(entity)) this.#byId.set(this.ref(entity).value, entity.id)
      }
    }
    world.subscribe((entity, properties) => {
      if (this.shows(entity)) this.feed.changed(this.ref(entity), ...properties)
      if (kind === 'esxi' && entity.kind === 'folder' && entity.holds === 'vm')
        this.feed.changed(labRef('Folder', 'ha-folder-vm'), ...properties)
    })
  }

  /** Whether a client of this endpoint can see it. */
  shows(entity: Entity): boolean {
    const dc = entity.kind === 'folder' && entity.parent === undefined ? undefined : this.world.datacenterOf(entity.id)
    if (this.kind === 'vcenter') return dc?.standalone !== true
    if (entity.kind === 'folder' && entity.parent === undefined) return true
    if (dc === undefined || dc.id !== this.datacenter?.id) return false
    const host = this.host?.id ?? ''
    switch (entity.kind) {
      case 'datacenter':
      case 'network':
        return true
      case 'folder':
        return Object.values(dc.folders).includes(entity.id)
      case 'compute':
        return entity.hosts.includes(host)
      case 'pool':
        return this.world.computeOf(host)?.pool === entity.id
      case 'host':
        return entity.id === host
      case 'datastore':
        return entity.hosts.includes(host)
      case 'vm':
        return entity.record.host === host
      case 'snapshot':
        return this.world.vm(entity.vm)?.host === host
    }
  }

  /** The reference this endpoint gives an entity. */
  ref(entity: Entity): LabRef {
    const esxi = this.kind === 'esxi'
    switch (entity.kind) {
      case 'folder':
        if (!esxi) return labRef('Folder', entity.id)
        if (entity.parent === undefined) return labRef('Folder', 'ha-folder-root')
        return labRef('Folder', `ha-folder-${entity.holds}`)
      case 'datacenter':
        return labRef('Datacenter', esxi ? 'ha-datacenter' : entity.id)
      case 'compute':
        return labRef(entity.cluster && !esxi ? 'ClusterComputeResource' : 'ComputeResource', esxi ? 'ha-compute-res' : entity.id)
      case 'pool':
        return labRef('ResourcePool', esxi ? 'ha-root-pool' : entity.id)
      case 'host':
        return labRef('HostSystem', esxi ? 'ha-host' : entity.id)
      case 'network':
        return labRef('Network', esxi ? `HaNetwork-${entity.name}` : entity.id)
      case 'datastore':
        return labRef('Datastore', esxi ? entity.uuid : entity.id)
      case 'vm':
        return labRef('VirtualMachine', esxi ? entity.id.slice('vm-'.length) : entity.id)
      case 'snapshot': {
        const found = this.world.snapshot(entity.id)
        const id = esxi && found !== undefined ? `${found.vm.id.slice('vm-'.length)}-snapshot-${found.snapshot.number}` : entity.id
        return labRef('VirtualMachineSnapshot', id)
      }
    }
  }

  /** The entity behind a reference's id; undefined when it is unknown or not shown here. */
  find(id: string): Entity | undefined {
    if (this.kind === 'vcenter') return this.#shown(this.world.entity(id))
    const fixed = this.#byId.get(id)
    if (fixed !== undefined) return this.#shown(this.world.entity(fixed))
    const snapshot = /^(\d+)-snapshot-(\d+)$/.exec(id)
    if (snapshot !== null) {
      const vm = this.world.vm(`vm-${snapshot[1]}`)
      const found = vm?.snapshots.find((candidate) => candidate.number === Number(snapshot[2]))
      return found === undefined ? undefined : this.#shown(this.world.entity(found.id))
    }
    return /^\d+$/.test(id) ? this.#shown(this.world.entity(`vm-${id}`)) : undefined
  }

  refOf(id: string | undefined): LabRef | undefined {
    const entity = id === undefined ? undefined : this.world.entity(id)
    return entity === undefined || !this.shows(entity) ? undefined : this.ref(entity)
  }

  vmRef(vm: VmRecord): LabRef {
    return this.ref({ kind: 'vm', id: vm.id, record: vm })
  }

  snapshotRef(snapshot: SnapshotRecord, vm: VmRecord): LabRef {
    return this.ref({ kind: 'snapshot', id: snapshot.id, vm: vm.id })
  }

  /** VMs this endpoint shows. */
  vms(): VmRecord[] {
    return [...this.world.vms()].filter((vm) => this.shows({ kind: 'vm', id: vm.id, record: vm }))
  }

  datastores(): DatastoreEntity[] {
    return this.world.of('datastore').filter((store) => this.shows(store))
  }

  /** The folder a VM lies in here: an ESXi host has only one. */
  folderOf(vm: VmRecord): string {
    return this.kind === 'esxi' && this.datacenter !== undefined ? this.datacenter.folders.vm : vm.folder
  }

  /** What a container shows below it, in this endpoint's eyes. */
  children(entity: Entity): Entity[] {
    if (entity.kind === 'folder' && entity.holds === 'vm' && this.kind === 'esxi') {
      return this.vms().map((record) => ({ kind: 'vm', id: record.id, record }))
    }
    return this.world
      .children(entity.id)
      .map((id) => this.world.entity(id))
      .filter((child) => child !== undefined)
      .filter((child) => this.shows(child))
  }

  #shown(entity: Entity | undefined): Entity | undefined {
    return entity !== undefined && this.shows(entity) ? entity : undefined
  }
}
