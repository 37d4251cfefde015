import { cpSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { posix } from 'node:path'
import { copyDisk, createDisk, createRdm, deleteDisk, diskInfo, moveDisk } from '../../storage/index.ts'
import {
  arrayOf,
  invalidArgument,
  type LabObject,
  labRef,
  type LabValue,
  type MethodCall,
  type Methods,
  VimFault,
} from '../../wire/index.ts'
import { flag, needNumber, needObject, needText, object, objects, text, texts } from '../arguments.ts'
import { baseName, directoryOf, formatDatastorePath, parseDatastorePath, within } from '../datastore-path.ts'
import { type Endpoint, entityOf } from '../endpoint.ts'
import { fileAlreadyExists, fileLocked, fileNotFound } from '../faults.ts'
import { lockOf } from '../file-lock.ts'
import { faulting, faultingAsync } from '../files.ts'
import { matchesPattern } from '../name-pattern.ts'

const ADAPTERS: Readonly<Record<string, 'lsilogic' | 'buslogic' | 'ide'>> = { lsiLogic: 'lsilogic', busLogic: 'buslogic', ide: 'ide' }

/** Files and disks outside of VMs: FileManager, VirtualDiskManager, the datastore browser. */
export function datastoreMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint
  const { files } = model

  /** A datastore path this endpoint may use, in one form. */
  const checked = (path: string, datacenter: MethodCall['args'][string]): string => {
    const parsed = parseDatastorePath(path)
    const store = view.datastores().find((candidate) => candidate.name === parsed.datastore)
    if (store === undefined)
      throw new VimFault('InvalidDatastorePath', { name: path, datastorePath: path }, `Invalid datastore path '${path}'.`)
    if (view.kind === 'vcenter') {
      if (datacenter === undefined) throw invalidArgument('datacenter')
      if (typeof datacenter === 'object' && '$ref' in datacenter && typeof datacenter.value === 'string') {
        const dc = entityOf(endpoint, labRef('Datacenter', datacenter.value), 'datacenter')
        if (model.world.datacenterOf(store.id)?.id !== dc.id) throw invalidArgument('datacenter')
      }
    }
    return formatDatastorePath(parsed)
  }
  const unlocked = (path: string): void => {
    const stat = statSync(files.local(path), { throwIfNoEntry: false })
    const inside = stat?.isDirectory() === true ? files.list(path).map((name) => within(path, name)) : [path]
    for (const file of inside) if (lockOf(model, file) !== undefined) throw fileLocked(file)
  }
  const run = (call: MethodCall, name: string, work: (signal: AbortSignal) => Promise<LabValue> | LabValue) =>
    model.task(view, call, name, call.self.ref, undefined, (task) => work(task.signal))

  const transfer = (call: MethodCall, name: string, move: boolean) => {
    const from = checked(needText(call.args, 'sourceName'), call.args['sourceDatacenter'])
    const to = checked(needText(call.args, 'destinationName'), call.args['destinationDatacenter'] ?? call.args['sourceDatacenter'])
    return run(call, name, () => {
      if (!files.exists(from)) throw fileNotFound(from)
      if (files.exists(to) && flag(call.args, 'force') !== true) throw fileAlreadyExists(to)
      if (!files.exists(directoryOf(to))) throw fileNotFound(directoryOf(to))
      if (move) unlocked(from)
      if (move && parseDatastorePath(from).datastore === parseDatastorePath(to).datastore) renameSync(files.local(from), files.local(to))
      else {
        cpSync(files.local(from), files.local(to), { recursive: true, force: true })
        if (move) rmSync(files.local(from), { recursive: true })
      }
      files.at(from).store.changed()
      files.at(to).store.changed()
      return undefined
    })
  }
  const diskTransfer = (call: MethodCall, name: string, move: boolean) => {
    const source = checked(needText(call.args, 'sourceName'), call.args['sourceDatacenter'])
    const target = checked(needText(call.args, 'destName'), call.args['destDatacenter'] ?? call.args['sourceDatacenter'])
    return run(call, name, async (signal) => {
      if (files.exists(target)) {
        if (flag(call.args, 'force') !== true) throw fileAlreadyExists(target)
        faulting(target, () => deleteDisk(files.at(target).store, files.at(target).path))
      }
      const from = files.at(source)
      const to = files.at(target)
      if (move) unlocked(source)
      await faultingAsync(source, () =>
        move ? moveDisk(from.store, from.path, to.store, to.path) : copyDisk(from.store, from.path, to.store, to.path, { signal }),
      )
      return undefined
    })
  }

  const search = (call: MethodCall, name: string, deep: boolean) => {
    const path = checked(needText(call.args, 'datastorePath'), labRefOf(call))
    const spec = object(call.args, 'searchSpec')
    return run(call, name, () => {
      if (!files.exists(path) || statSync(files.local(path)).isFile()) throw fileNotFound(path)
      const found: LabObject[] = []
      const visit = (directory: string, level: number): void => {
        found.push(listing(endpoint, directory, spec))
        if (!deep || level > 32) return
        for (const entry of files.list(directory)) {
          const inner = within(directory, entry)
          if (statSync(files.local(inner)).isDirectory()) visit(inner, level + 1)
        }
      }
      visit(path, 0)
      return deep ? arrayOf('HostDatastoreBrowserSearchResults', found) : found[0]
    })
  }

  return {
    FileManager: {
      DeleteDatastoreFile_Task: (call) => {
        const path = checked(needText(call.args, 'name'), call.args['datacenter'])
        return run(call, 'DeleteDatastoreFile_Task', () => {
          if (parseDatastorePath(path).path === '') throw invalidArgument('name')
          if (!files.exists(path)) throw fileNotFound(path)
          unlocked(path)
          rmSync(files.local(path), { recursive: true })
          files.at(path).store.changed()
          return undefined
        })
      },
      MakeDirectory: (call) => {
        const path = checked(needText(call.args, 'name'), call.args['datacenter'])
        if (files.exists(path)) throw fileAlreadyExists(path)
        const parents = flag(call.args, 'createParentDirectories') ?? false
        if (!parents && !files.exists(directoryOf(path))) throw fileNotFound(directoryOf(path))
        mkdirSync(files.local(path), { recursive: parents })
        return undefined
      },
      MoveDatastoreFile_Task: (call) => transfer(call, 'MoveDatastoreFile_Task', true),
      CopyDatastoreFile_Task: (call) => transfer(call, 'CopyDatastoreFile_Task', false),
    },
    VirtualDiskManager: {
      CreateVirtualDisk_Task: (call) => {
        const path = checked(needText(call.args, 'name'), call.args['datacenter'])
        const spec = needObject(call.args, 'spec')
        const capacityBytes = needNumber(spec, 'capacityKb') * 1024
        const type = text(spec, 'diskType') ?? 'preallocated'
        return run(call, 'CreateVirtualDisk_Task', () => {
          const at = files.at(path)
          const wanted = {
            path: at.path,
            capacityBytes,
            thin: type === 'thin',
            adapterType: ADAPTERS[text(spec, 'adapterType') ?? ''] ?? 'lsilogic',
          } as const
          faulting(path, () => (type === 'rdmp' ? createRdm(at.store, { ...wanted, physical: true }) : createDisk(at.store, wanted)))
          return path
        })
      },
      DeleteVirtualDisk_Task: (call) => {
        const path = checked(needText(call.args, 'name'), call.args['datacenter'])
        return run(call, 'DeleteVirtualDisk_Task', () => {
          if (!files.exists(path)) throw fileNotFound(path)
          unlocked(path)
          const at = files.at(path)
          faulting(path, () => deleteDisk(at.store, at.path))
          return undefined
        })
      },
      MoveVirtualDisk_Task: (call) => diskTransfer(call, 'MoveVirtualDisk_Task', true),
      CopyVirtualDisk_Task: (call) => diskTransfer(call, 'CopyVirtualDisk_Task', false),
      QueryVirtualDiskUuid: (call) => {
        const path = checked(needText(call.args, 'name'), call.args['datacenter'])
        const at = files.at(path)
        return faulting(path, () => diskInfo(at.store, at.path)).uuid
      },
      QueryVirtualDiskInfo_Task: (call) => {
        const path = checked(needText(call.args, 'name'), call.args['datacenter'])
        return run(call, 'QueryVirtualDiskInfo_Task', () => {
          const at = files.at(path)
          const found: LabObject[] = []
          for (let link: string | undefined = at.path; link !== undefined; ) {
            const info = faulting(path, () => diskInfo(at.store, link ?? ''))
            found.push({
              $type: 'VirtualDiskInfo',
              unit: { $type: 'VirtualDiskUnitInfo', name: `[${at.store.name}] ${link}` },
              diskType: info.thin ? 'thin' : 'preallocated',
              parent: info.parent === undefined ? undefined : `[${at.store.name}] ${info.parent}`,
            })
            link = flag(call.args, 'includeParents') === true ? info.parent : undefined
          }
          return arrayOf('VirtualDiskInfo', found)
        })
      },
    },
    HostDatastoreBrowser: {
      SearchDatastore_Task: (call) => search(call, 'SearchDatastore_Task', false),
      SearchDatastoreSubFolders_Task: (call) => search(call, 'SearchDatastoreSubFolders_Task', true),
      DeleteFile: (call) => {
        const path = checked(needText(call.args, 'datastorePath'), labRefOf(call))
        if (!files.exists(path)) throw fileNotFound(path)
        unlocked(path)
        rmSync(files.local(path))
        return undefined
      },
    },
    Datastore: {
      RefreshDatastore: (call) => refresh(call),
      RefreshDatastoreStorageInfo: (call) => refresh(call),
    },
  }

  function refresh(call: MethodCall): undefined {
    const store = entityOf(endpoint, call.self.ref, 'datastore')
    files.store(store.name).changed()
    view.feed.changed(call.self.ref, 'summary', 'info')
    return undefined
  }

  /** A browser belongs to one datastore or to a VM's or host's set of them; its datacenter needs no naming. */
  function labRefOf(call: MethodCall): LabValue {
    const id = call.self.ref.value.replace(/^datastoreBrowser-/, '')
    const entity = view.find(id)
    return entity === undefined ? true : (view.refOf(model.world.datacenterOf(entity.id)?.id) ?? true)
  }
}

/** One HostDatastoreBrowserSearchResults. A disk shows as its descriptor; its extents are hidden. */
function listing(endpoint: Endpoint, directory: string, spec: LabObject | undefined): LabObject {
  const { files } = endpoint.model
  const details = object(spec, 'details')
  const patterns = texts(spec, 'matchPattern')
  const blind = flag(spec, 'searchCaseInsensitive') ?? false
  const queries = objects(spec, 'query').map((query) => query.$type)
  const entries: LabObject[] = []
  for (const name of [...files.list(directory)].sort()) {
    const path = within(directory, name)
    const stat = statSync(files.local(path), { throwIfNoEntry: false })
    if (stat === undefined) continue
    if (/-(flat|delta|sesparse|rdm|rdmp)\.vmdk$/.test(name) || (name.endsWith('-ctk.vmdk') && queries.length > 0)) continue
    if (
      patterns.length > 0 &&
      !patterns.some((pattern) => matchesPattern(blind ? pattern.toLowerCase() : pattern, blind ? name.toLowerCase() : name))
    )
      continue
    const type = infoType(name, stat.isDirectory())
    if (queries.length > 0 && !queries.some((query) => query === 'FileQuery' || query.replace(/Query$/, 'Info') === type)) continue
    const size = type === 'VmDiskFileInfo' ? diskSize(endpoint, path, stat.size) : stat.size
    entries.push({
      $type: details === undefined || flag(details, 'fileType') === true || queries.length > 0 ? type : 'FileInfo',
      path: name,
      fileSize: details === undefined || flag(details, 'fileSize') === true ? size : undefined,
      modification: flag(details, 'modification') === true ? stat.mtime : undefined,
      owner: flag(details, 'fileOwner') === true ? 'root' : undefined,
    })
  }
  if (flag(spec, 'sortFoldersFirst') === true)
    entries.sort((a, b) => Number(b.$type === 'FolderFileInfo') - Number(a.$type === 'FolderFileInfo'))
  const store = view(endpoint, directory)
  return {
    $type: 'HostDatastoreBrowserSearchResults',
    datastore: store,
    folderPath: posix.join(directory, '/').replace(/\]\/$/, ']'),
    file: entries,
  }
}

const view = (endpoint: Endpoint, path: string): LabValue =>
  endpoint.view.refOf(endpoint.model.world.datastore(parseDatastorePath(path).datastore)?.id)

function infoType(name: string, directory: boolean): string {
  if (directory) return 'FolderFileInfo'
  const extension = name.slice(name.lastIndexOf('.') + 1)
  return (
    {
      vmx: 'VmConfigFileInfo',
      vmdk: 'VmDiskFileInfo',
      nvram: 'VmNvramFileInfo',
      log: 'VmLogFileInfo',
      vmsn: 'VmSnapshotFileInfo',
      iso: 'IsoImageFileInfo',
      flp: 'FloppyImageFileInfo',
    }[extension] ?? 'FileInfo'
  )
}

/** Bytes of a disk's extents, as browsers show them for the descriptor. */
function diskSize(endpoint: Endpoint, path: string, own: number): number {
  const { files } = endpoint.model
  const stem = baseName(path).replace(/\.vmdk$/, '')
  for (const kind of ['flat', 'delta', 'sesparse']) {
    const size = files.size(within(directoryOf(path), `${stem}-${kind}.vmdk`))
    if (size !== undefined) return size
  }
  return own
}
