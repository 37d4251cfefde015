import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { basename } from 'node:path'
import { Datastore, LabStorageError } from '../storage/index.ts'
import { VimFault } from '../wire/index.ts'
import { baseName, directoryOf, formatDatastorePath, parseDatastorePath, within } from './datastore-path.ts'
import { changeTrackingFault, fileAlreadyExists, fileFault, fileLocked, fileNotFound, invalidDatastorePath, noDiskSpace } from './faults.ts'
import { disksOf, type LinkRecord, type VmRecord } from './record.ts'
import type { World } from './world.ts'

export type VmFile = {
  /** `[ds] dir/file`. */
  readonly path: string
  /** layoutEx's word. */
  readonly type: string
  readonly size: number
  readonly allocated: number
}

/** The datastores' files, by datastore path. Every failure of storage leaves here as a vim25 fault. */
export class Files {
  readonly #stores = new Map<string, Datastore>()

  constructor(world: World) {
    for (const entity of world.of('datastore')) {
      const store = new Datastore({ name: entity.name, type: entity.type, directory: entity.directory, capacityBytes: entity.capacity })
      store.create()
      this.#stores.set(entity.name, store)
    }
  }

  /** Fault InvalidDatastorePath when there is none of this name. */
  store(name: string): Datastore {
    const store = this.#stores.get(name)
    if (store === undefined) throw invalidDatastorePath(`[${name}]`)
    return store
  }

  get stores(): Iterable<Datastore> {
    return this.#stores.values()
  }

  /** Datastore and relative path of `[ds] dir/file`. */
  at(path: string): { store: Datastore; path: string } {
    const parsed = parseDatastorePath(path)
    return { store: this.store(parsed.datastore), path: parsed.path }
  }

  /** The local file behind a datastore path; never outside the datastore. */
  local(path: string): string {
    const at = this.at(path)
    return at.path === '' ? at.store.directory : faulting(path, () => at.store.path(at.path))
  }

  exists(path: string): boolean {
    return statSync(this.local(path), { throwIfNoEntry: false }) !== undefined
  }

  size(path: string): number | undefined {
    return statSync(this.local(path), { throwIfNoEntry: false })?.size
  }

  /** Files of one link of a disk, descriptor first. */
  ofLink(link: LinkRecord): string[] {
    const stem = basename(baseName(link.path), '.vmdk')
    const suffix = { flat: 'flat', sesparse: 'sesparse', cowd: 'delta', rdm: 'rdmp' }[link.kind]
    return [link.path, ...(link.kind === 'rdm' ? ['rdm'] : []), suffix, 'ctk']
      .map((part, index) => (index === 0 ? part : within(directoryOf(link.path), `${stem}-${part}.vmdk`)))
      .filter((path) => this.exists(path))
  }

  /** Every file of a VM: its directory's, and those of disks that lie elsewhere. Sorted by path. */
  ofVm(vm: VmRecord): VmFile[] {
    if (!vm.materialised) return []
    const found = new Map<string, VmFile>()
    const add = (path: string): void => {
      const stat = statSync(this.local(path), { throwIfNoEntry: false })
      if (stat?.isFile() === true) found.set(path, { path, type: fileType(path), size: stat.size, allocated: stat.blocks * 512 })
    }
    const home = directoryOf(vm.path)
    for (const name of this.list(home)) add(within(home, name))
    for (const disk of disksOf(vm.config)) for (const link of disk.chain) if (!disk.foreign) for (const path of this.ofLink(link)) add(path)
    return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  /**
   * The files of a VM that its host knows of, as `layoutEx` lists them and Destroy_Task deletes them: of disks and snapshots only those that its
   * configurations lead to. What a removal left behind, or somebody put there, is not among them.
   */
  knownOfVm(vm: VmRecord): VmFile[] {
    const stem = basename(baseName(vm.path), '.vmx')
    const configs = [vm.config, ...vm.snapshots.map((snapshot) => snapshot.config)]
    const led = new Set(configs.flatMap((config) => disksOf(config).flatMap((disk) => disk.chain.flatMap((link) => this.ofLink(link)))))
    for (const { number } of vm.snapshots)
      for (const kind of ['vmsn', 'vmem']) led.add(within(directoryOf(vm.path), `${stem}-Snapshot${number}.${kind}`))
    return this.ofVm(vm).filter(({ path, type }) => (LED_TO.has(type) ? led.has(path) : type !== 'other'))
  }

  /** Names in a directory; none when it is not there. */
  list(directory: string): string[] {
    const local = this.local(directory)
    return statSync(local, { throwIfNoEntry: false })?.isDirectory() === true ? readdirSync(local) : []
  }

  /** The datastore path of a VMX's file entry: relative to the VM's directory, or absolute below `/vmfs/volumes`. */
  resolve(home: string, fileName: string, world: World): string {
    const volume = /^\/vmfs\/volumes\/([^/]+)\/(.+)$/.exec(fileName)
    if (volume === null) return within(home, fileName)
    const store = world.of('datastore').find((entity) => entity.name === volume[1] || entity.uuid === volume[1])
    if (store === undefined) throw fileNotFound(fileName)
    return formatDatastorePath({ datastore: store.name, path: volume[2] ?? '' })
  }

  /** Makes a directory and its parents. */
  makeDirectory(path: string): void {
    mkdirSync(this.local(path), { recursive: true })
  }
}

const TYPES: readonly (readonly [RegExp, string])[] = [
  [/\.vmx$/, 'config'],
  [/\.vmxf$/, 'extendedConfig'],
  [/\.nvram$/, 'nvram'],
  [/\.vmsd$/, 'snapshotList'],
  [/\.vmsn$/, 'snapshotData'],
  [/\.vmem$/, 'snapshotMemory'],
  [/\.vmss$/, 'suspend'],
  [/\.vswp$/, 'swap'],
  [/\.log$/, 'log'],
  [/-(flat|delta|sesparse|rdm|rdmp)\.vmdk$/, 'diskExtent'],
  [/-ctk\.vmdk$/, 'changeTracking'],
  [/\.vmdk$/, 'diskDescriptor'],
]
/** Types of files that a configuration leads to; the others belong to the VM by lying in its directory. */
const LED_TO = new Set(['diskDescriptor', 'diskExtent', 'changeTracking', 'snapshotData', 'snapshotMemory'])
const fileType = (path: string): string => TYPES.find(([pattern]) => pattern.test(path))?.[1] ?? 'other'

/** Runs storage work and turns its failures into vim25 faults. `subject` names the file when storage does not. */
export function faulting<T>(subject: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw storageFault(error, subject)
  }
}

export async function faultingAsync<T>(subject: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw storageFault(error, subject)
  }
}

/** The vim25 fault of a storage failure; anything else as it is. */
export function storageFault(error: unknown, subject: string): unknown {
  if (!(error instanceof LabStorageError)) return error
  const file = error.subject === undefined || error.subject === '' ? subject : error.subject
  switch (error.failure) {
    case 'NoDiskSpace':
      return noDiskSpace(file, /^\[([^\]]+)\]/.exec(subject)?.[1] ?? '')
    case 'FileNotFound':
      return fileNotFound(file)
    case 'FileAlreadyExists':
      return fileAlreadyExists(file)
    case 'FileLocked':
      return fileLocked(file)
    case 'InvalidDatastorePath':
      return invalidDatastorePath(file)
    case 'InvalidDisk':
      return new VimFault('InvalidDiskFormat', {}, error.message)
    case 'TooManyLinks':
      return new VimFault('TooManySnapshotLevels', {}, error.message)
    case 'InvalidOffset':
      return new VimFault('InvalidArgument', { invalidProperty: 'startOffset' }, error.message)
    case 'UnknownChangeId':
      return new VimFault('InvalidArgument', { invalidProperty: 'changeId' }, error.message)
    case 'NoTrack':
      return changeTrackingFault(file, 'noTrack')
    case 'NoEpoch':
      return changeTrackingFault(file, 'noEpoch')
    case 'CannotGetChanges':
      return changeTrackingFault(file, 'cannotGetChanges')
    case 'BadStream':
      return fileFault(file, error.message)
  }
}
