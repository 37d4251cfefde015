import { isAbsolute, join } from 'node:path'
import { safeFileName } from '../../core/index.ts'
import type { Scenario, ScenarioDatacenter, ScenarioDisk, ScenarioVm } from '../scenario.ts'
import type { FolderKind, StaticEntity } from './entity.ts'
import type { ConfigRecord, ControllerType, DeviceRecord, DiskRecord, LinkRecord, VmRecord } from './record.ts'
import type { Seeded } from './seeded.ts'

export type Built = {
  readonly entities: readonly StaticEntity[]
  readonly vms: readonly VmRecord[]
  /** Names of the users' own snapshots to make when the VM's files are made. */
  readonly userSnapshots: ReadonlyMap<string, ScenarioVm['snapshots']>
  /** VMs of `generate`: their files are made at the first touch. */
  readonly generated: ReadonlySet<string>
  readonly root: string
  readonly nextId: number
}

/**
 * The inventory a scenario describes, ids included. Pure and repeatable: the same scenario gives the same ids and uuids, so a restarted lab
 * needs to keep only what was changed.
 */
export function buildInventory(scenario: Scenario, seeded: Seeded, directory: string, made: string): Built {
  let next = 1
  const id = (prefix: string): string => `${prefix}${next++}`
  const entities: StaticEntity[] = []
  const vms: VmRecord[] = []
  const generated = new Set<string>()
  const userSnapshots = new Map<string, ScenarioVm['snapshots']>()
  const root = id('group-d')
  entities.push({ kind: 'folder', id: root, name: 'Datacenters', parent: undefined, holds: 'datacenter' })

  for (const dc of scenario.datacenters) {
    const dcId = id('datacenter-')
    const folder = (prefix: string, name: string, holds: FolderKind): string => {
      const folderId = id(prefix)
      entities.push({ kind: 'folder', id: folderId, name, parent: dcId, holds })
      return folderId
    }
    const folders = {
      vm: folder('group-v', 'vm', 'vm'),
      host: folder('group-h', 'host', 'host'),
      datastore: folder('group-s', 'datastore', 'datastore'),
      network: folder('group-n', 'network', 'network'),
    }
    entities.push({ kind: 'datacenter', id: dcId, name: dc.name, parent: root, standalone: dc.standalone, folders })

    const hosts = new Map<string, { id: string; pool: string }>()
    const compute = (
      name: string,
      members: readonly ScenarioDatacenter['hosts'][number][],
      cluster: boolean,
      pools: readonly string[],
    ): void => {
      const computeId = id(cluster ? 'domain-c' : 'domain-s')
      const pool = id('resgroup-')
      const hostIds = members.map((host) => {
        const hostId = id('host-')
        entities.push({ kind: 'host', id: hostId, name: host.name, parent: computeId, ip: host.ip, ssh: host.ssh, licence: host.licence })
        hosts.set(host.name, { id: hostId, pool })
        return hostId
      })
      entities.push({ kind: 'compute', id: computeId, name, parent: folders.host, cluster, pool, hosts: hostIds })
      entities.push({ kind: 'pool', id: pool, name: 'Resources', parent: computeId, compute: computeId })
      for (const child of pools) entities.push({ kind: 'pool', id: id('resgroup-'), name: child, parent: pool, compute: computeId })
    }
    for (const cluster of dc.clusters) compute(cluster.name, cluster.hosts, true, cluster.resourcePools)
    for (const host of dc.hosts) compute(host.name, [host], false, [])

    for (const name of dc.networks) entities.push({ kind: 'network', id: id('network-'), name, parent: folders.network })
    for (const store of dc.datastores) {
      const chosen = store.directory ?? join('datastores', safeFileName(store.name))
      entities.push({
        kind: 'datastore',
        id: id('datastore-'),
        name: store.name,
        parent: folders.datastore,
        type: store.type,
        directory: isAbsolute(chosen) ? chosen : join(directory, chosen),
        capacity: store.capacity,
        hosts: [...hosts].filter(([name]) => store.hosts === undefined || store.hosts.includes(name)).map(([, host]) => host.id),
        uuid: volumeUuid(seeded, store.name),
      })
    }

    const vmFolders = new Map<string, string>([['', folders.vm]])
    const folderFor = (path: string): string => {
      const clean = path.split('/').filter((part) => part !== '')
      let at = ''
      for (const part of clean) {
        const parent = vmFolders.get(at) ?? folders.vm
        at = at === '' ? part : `${at}/${part}`
        if (!vmFolders.has(at)) {
          const folderId = id('group-v')
          vmFolders.set(at, folderId)
          entities.push({ kind: 'folder', id: folderId, name: part, parent, holds: 'vm' })
        }
      }
      return vmFolders.get(at) ?? folders.vm
    }
    for (const path of dc.folders) folderFor(path)

    const taken = new Set<string>()
    for (const vm of allVms(dc)) {
      const host = hosts.get(vm.host ?? '') ?? [...hosts.values()][vms.length % hosts.size]
      if (host === undefined) throw new Error(`no host for ${vm.name}`)
      const vmId = id('vm-')
      const store = vm.datastore ?? dc.datastores[0]?.name ?? ''
      const unit = safeDirectory(vm.name, taken)
      vms.push({
        id: vmId,
        folder: folderFor(vm.folder),
        host: host.id,
        proxy: vm.proxy === true ? 'device' : vm.proxy === 'file' ? 'file' : undefined,
        pool: vm.template ? undefined : host.pool,
        path: `[${store}] ${unit}/${unit}.vmx`,
        power: vm.power,
        bootTime: vm.power === 'poweredOn' ? made : undefined,
        tools: vm.tools,
        ip: vm.ip,
        hostName: vm.hostName,
        template: vm.template,
        config: configOf(vm, store, unit, `${dc.name}/${vm.folder}/${vm.name}`, seeded, made),
        snapshots: [],
        currentSnapshot: undefined,
        nextSnapshotNumber: 1,
        consolidationNeeded: false,
        trackingActive: vm.changeTracking && vm.hardware >= 7,
        disabledMethods: [],
        customValues: {},
        tags: vm.tags,
        workload: vm.workload,
        freezeLimitSeconds: vm.freezeLimitSeconds,
        freezeMs: vm.freezeMs,
        digests: [],
        materialised: false,
        pending: undefined,
      })
      if (!dc.vms.includes(vm)) generated.add(vmId)
      if (vm.snapshots.length > 0) userSnapshots.set(vmId, vm.snapshots)
    }
  }
  return { entities, vms, userSnapshots, generated, root, nextId: next }
}

function* allVms(dc: ScenarioDatacenter): Generator<ScenarioVm> {
  yield* dc.vms
  for (const group of dc.generate) {
    const width = String(group.count).length
    for (let index = 1; index <= group.count; index++) {
      yield {
        name: `${group.prefix}${String(index).padStart(width, '0')}`,
        folder: group.folder,
        datastore: group.datastore,
        guestId: 'otherLinux64Guest',
        hardware: 19,
        firmware: 'bios',
        cpus: 1,
        memoryMb: 128,
        power: group.power,
        tools: 'running',
        template: false,
        changeTracking: false,
        annotation: '',
        disks: Array.from({ length: group.disks }, () => ({ ...PLAIN_DISK, size: group.disk })),
        networks: [],
        cdrom: false,
        usb: false,
        serial: false,
        snapshots: [],
        workload: 0,
        freezeLimitSeconds: 10,
        freezeMs: 0,
        extraConfig: {},
        proxy: false,
        tags: [],
      }
    }
  }
}

const PLAIN_DISK: Omit<ScenarioDisk, 'size'> = {
  controller: 'pvscsi',
  bus: 0,
  thin: true,
  eager: false,
  mode: 'persistent',
  sharing: 'sharingNone',
  content: 'empty',
}

/** The directory a host would make for a VM of this name: characters a datastore path cannot carry are replaced, and names stay apart. */
function safeDirectory(name: string, taken: Set<string>): string {
  const base = name.replace(/[/\\[\]:*?"<>|%\p{Cc}]/gu, '_').replace(/^\.+/, '_') || 'vm'
  let chosen = base
  for (let number = 1; taken.has(chosen); number++) chosen = `${base}_${number}`
  taken.add(chosen)
  return chosen
}

const FIRST_KEY: Readonly<Record<ControllerType, number>> = {
  ide: 200,
  lsilogic: 1000,
  lsisas: 1000,
  pvscsi: 1000,
  buslogic: 1000,
  sata: 15_000,
  nvme: 31_000,
}

/** Device key as a real host gives it out. */
export function diskKey(controllerKey: number, bus: number, unit: number): number {
  if (controllerKey >= 31_000) return 32_000 + 16 * bus + unit
  if (controllerKey >= 15_000) return 16_000 + 30 * bus + unit
  if (controllerKey >= 1000) return 2000 + 16 * bus + unit
  return 3000 + 2 * bus + unit
}

function configOf(vm: ScenarioVm, store: string, unit: string, words: string, seeded: Seeded, made: string): ConfigRecord {
  const devices: DeviceRecord[] = []
  const used = new Map<number, Set<number>>()
  const controllerFor = (type: ControllerType, bus: number): number => {
    const key = FIRST_KEY[type] + bus
    if (!used.has(key)) {
      used.set(key, new Set(key >= 1000 && key < 15_000 ? [7] : []))
      devices.push({ kind: 'controller', key, controller: type, bus, sharedBus: 'noSharing' })
    }
    return key
  }
  const free = (key: number, wanted?: number): number => {
    const taken = used.get(key) ?? new Set<number>()
    let number = wanted ?? 0
    while (taken.has(number)) number++
    taken.add(number)
    return number
  }
  const disks: DiskRecord[] = []
  vm.disks.forEach((disk, index) => {
    const controllerKey = controllerFor(disk.controller, disk.bus)
    const number = free(controllerKey, disk.unit)
    const file = index === 0 ? `${unit}.vmdk` : `${unit}_${index}.vmdk`
    const base: LinkRecord = {
      path: `[${disk.datastore ?? store}] ${unit}/${file}`,
      kind: disk.rdm === undefined ? 'flat' : 'rdm',
      contentId: seeded.hex(32, words, 'content', index),
    }
    disks.push({
      kind: 'disk',
      key: diskKey(controllerKey, disk.bus, number),
      controllerKey,
      unit: number,
      capacity: Math.ceil(disk.size / 512) * 512,
      mode: disk.mode,
      sharing: disk.sharing,
      thin: disk.thin,
      eager: disk.eager,
      uuid: diskUuid(seeded, words, index),
      rdm: disk.rdm,
      chain: [base],
      changeId: undefined,
      records: disk.records ?? disk.rdm !== 'physical',
      content: disk.content,
      foreign: false,
    })
  })
  devices.push(...disks)
  vm.networks.forEach((nic, index) => {
    const mac = seeded.mac(words, 'nic', index)
    devices.push({ kind: 'nic', key: 4000 + index, nic: nic.type, network: nic.network, mac, unit: 7 + index, connected: true })
  })
  if (vm.cdrom !== false) {
    const controllerKey = controllerFor('ide', 1)
    const number = free(controllerKey)
    devices.push({
      kind: 'cdrom',
      key: 3002 + number,
      controllerKey,
      unit: number,
      iso: `[${vm.cdrom === true ? store : vm.cdrom}] iso/tools.iso`,
    })
  }
  if (vm.usb) devices.push({ kind: 'usb', key: 7000 })
  if (vm.serial) devices.push({ kind: 'serial', key: 9000, unit: 0, file: `[${store}] ${unit}/serial.txt` })
  const uuid = seeded.uuid(words, 'bios').replace(/^.{8}/, (head) => `42${head.slice(2)}`)
  return {
    name: vm.name,
    uuid,
    instanceUuid: seeded.uuid(words, 'instance').replace(/^.{8}/, (head) => `50${head.slice(2)}`),
    changeVersion: 1,
    modified: made,
    guestId: vm.guestId,
    hardware: vm.hardware,
    firmware: vm.firmware,
    cpus: vm.cpus,
    memoryMb: vm.memoryMb,
    annotation: vm.annotation,
    changeTracking: vm.changeTracking,
    managedBy: undefined,
    extraConfig: { ...vm.extraConfig },
    devices,
  }
}

/** As hosts write them: `6000C29…`. */
export const diskUuid = (seeded: Seeded, words: string, index: number): string => `6000C29${seeded.uuid(words, 'disk', index).slice(7)}`

function volumeUuid(seeded: Seeded, name: string): string {
  const hex = seeded.hex(32, 'volume', name)
  return `${hex.slice(0, 8)}-${hex.slice(8, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}
