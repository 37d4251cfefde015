import { mkdirSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { copyDisk } from '../../storage/index.ts'
import { invalidArgument, type LabObject, type LabRef, type MethodCall, type Methods, notFound, VimFault } from '../../wire/index.ts'
import { flag, needObject, needReference, needText, object, reference, references, text } from '../arguments.ts'
import { baseName, directoryOf, parseDatastorePath, within } from '../datastore-path.ts'
import { type Endpoint, entityOf, selfVm } from '../endpoint.ts'
import { duplicateName, fileAlreadyExists, fileNotFound, invalidPowerState, invalidState, notSupported } from '../faults.ts'
import { faultingAsync } from '../files.ts'
import { configFromVmx, emptyVm } from '../new-vm.ts'
import { disksOf, type VmRecord } from '../record.ts'
import { reconfigure } from '../reconfigure.ts'
import { removeLeft } from '../remove-left.ts'
import { readSnapshots, saveSnapshots } from '../snapshot-files.ts'
import { writeVmx } from '../vm-files.ts'
import { unescapeName } from './snapshot-methods.ts'

/** Making, registering, changing, copying and removing VMs and folders. */
export function inventoryMethods(endpoint: Endpoint): Methods {
  const { model, view } = endpoint
  const { world } = model

  const place = (folder: LabRef, pool: LabRef | undefined, host: LabRef | undefined): { folder: string; host: string; pool: string } => {
    const target = entityOf(endpoint, folder, 'folder')
    if (target.holds !== 'vm') throw notSupported('VMs lie in VM folders only.')
    const poolEntity = pool === undefined ? undefined : entityOf(endpoint, pool, 'pool')
    const hostId = host === undefined ? undefined : entityOf(endpoint, host, 'host').id
    const compute = hostId === undefined ? world.entity(poolEntity?.compute ?? '') : world.computeOf(hostId)
    const fallback = view.host?.id
    const chosen = hostId ?? (compute?.kind === 'compute' ? compute.hosts[0] : undefined) ?? fallback
    if (chosen === undefined) throw invalidArgument('pool')
    return { folder: target.id, host: chosen, pool: poolEntity?.id ?? world.computeOf(chosen)?.pool ?? '' }
  }
  const refuseTwin = (folder: string, name: string, except?: VmRecord): void => {
    for (const vm of world.vms())
      if (vm !== except && vm.folder === folder && vm.config.name === name) throw duplicateName(name, view.vmRef(vm))
  }
  const sees = (host: string, path: string): void => {
    const store = world.datastore(parseDatastorePath(path).datastore)
    if (store === undefined || !view.shows(store))
      throw new VimFault('InvalidDatastorePath', { name: path, datastorePath: path }, `Invalid datastore path '${path}'.`)
    if (!store.hosts.includes(host))
      throw new VimFault('InvalidDatastore', { name: store.name }, `The host does not see the datastore '${store.name}'.`)
  }

  /**
   * With `imported` the VM goes again when the lab ends before somebody has taken that mark away; it is called with the record before anybody sees
   * the VM.
   */
  const createVm = async (
    folder: LabRef,
    pool: LabRef | undefined,
    host: LabRef | undefined,
    spec: LabObject,
    imported?: (vm: VmRecord) => void,
  ): Promise<LabRef> => {
    const at = place(folder, pool, host)
    const name = unescapeName(needText(spec, 'name'))
    refuseTwin(at.folder, name)
    const path = pathFor(text(object(spec, 'files'), 'vmPathName') ?? '', name)
    sees(at.host, path)
    const directory = directoryOf(path)
    const fresh = !model.files.exists(directory)
    if (model.files.exists(path)) throw fileAlreadyExists(path)
    const vm = emptyVm(model, { ...at, path, name })
    if (fresh) vm.pending = { kind: 'import', links: [] }
    imported?.(vm)
    await world.prepare(vm)
    mkdirSync(model.files.local(directory), { recursive: true })
    try {
      await reconfigure(model, vm, spec)
      if (imported === undefined) vm.pending = undefined
    } catch (error) {
      await model.close(vm)
      await world.abandon(vm)
      if (fresh) rmSync(model.files.local(directory), { recursive: true, force: true })
      throw error
    }
    await world.add(vm)
    await world.saveLab()
    return view.vmRef(vm)
  }

  const remove = async (vm: VmRecord, files: boolean): Promise<void> => {
    const list = files ? model.files.knownOfVm(vm) : []
    if (files)
      model.checkLocks(
        vm,
        disksOf(vm.config).flatMap((disk) => disk.chain.map((link) => link.path)),
      )
    await model.close(vm)
    await model.attached.drop(vm)
    const home = directoryOf(vm.path)
    const paths = list.map((file) => model.files.local(file.path))
    if (files && parseDatastorePath(home).path !== '') paths.push(model.files.local(home))
    await world.remove(vm, paths)
    if (!files) return
    removeLeft(paths)
    await world.removed(vm.id)
  }

  const destroy = (call: MethodCall) => {
    const vm = selfVm(endpoint, call)
    if (vm.power !== 'poweredOff') throw invalidPowerState('poweredOff', vm.power)
    if (endpoint.leases.holds(vm)) throw invalidState('A transfer of this VM is under way.')
    return model.task(view, call, 'Destroy_Task', view.vmRef(vm), vm, () => remove(vm, true).then(() => undefined))
  }

  return {
    Folder: {
      CreateVM_Task: (call) => {
        const spec = needObject(call.args, 'config')
        return model.task(view, call, 'CreateVM_Task', call.self.ref, undefined, () =>
          createVm(call.self.ref, reference(call.args, 'pool'), reference(call.args, 'host'), spec),
        )
      },
      RegisterVM_Task: (call) => {
        const path = needText(call.args, 'path')
        return model.task(view, call, 'RegisterVM_Task', call.self.ref, undefined, async () => {
          const parsed = parseDatastorePath(path)
          const clean = `[${parsed.datastore}] ${parsed.path}`
          const known = world.vmOfPath(clean)
          if (known !== undefined)
            throw new VimFault('AlreadyExists', { name: known.config.name }, `The VM '${known.config.name}' is registered already.`)
          const at = place(call.self.ref, reference(call.args, 'pool'), reference(call.args, 'host'))
          if (view.kind === 'vcenter' && reference(call.args, 'pool') === undefined && flag(call.args, 'asTemplate') !== true)
            throw invalidArgument('pool')
          sees(at.host, clean)
          if (!model.files.exists(clean)) throw fileNotFound(clean)
          const name = text(call.args, 'name')
          const vm = emptyVm(model, { ...at, path: clean, name: name ?? '' })
          vm.config = configFromVmx(model, vm, name === undefined ? undefined : unescapeName(name))
          refuseTwin(vm.folder, vm.config.name)
          vm.template = flag(call.args, 'asTemplate') ?? false
          readSnapshots(model, vm)
          await world.add(vm)
          await world.saveLab()
          writeVmx(model, vm)
          return view.vmRef(vm)
        })
      },
      CreateFolder: async (call) => {
        const parent = entityOf(endpoint, call.self.ref, 'folder')
        if (parent.holds !== 'vm' || view.kind === 'esxi') throw notSupported()
        const name = unescapeName(needText(call.args, 'name'))
        const twin = view.children(parent).find((child) => child.kind === 'folder' && child.name === name)
        if (twin !== undefined) throw duplicateName(name, view.ref(twin))
        return view.ref(await world.addFolder(name, parent.id))
      },
      MoveIntoFolder_Task: (call) => {
        const target = entityOf(endpoint, call.self.ref, 'folder')
        const list = references(call.args, 'list').map((ref) => entityOf(endpoint, ref, 'vm').record)
        return model.task(view, call, 'MoveIntoFolder_Task', call.self.ref, undefined, async () => {
          for (const vm of list) await world.move(vm, target.id)
          return undefined
        })
      },
    },
    ManagedEntity: {
      Destroy_Task: (call) => {
        const entity = view.find(call.self.ref.value)
        if (entity?.kind === 'vm') return destroy(call)
        if (entity?.kind !== 'folder' || entity.holds !== 'vm' || !world.lab.folders.some((folder) => folder.id === entity.id))
          throw notSupported()
        if (view.children(entity).length > 0) throw notSupported('The folder is not empty.')
        return model.task(view, call, 'Destroy_Task', call.self.ref, undefined, () => world.removeFolder(entity).then(() => undefined))
      },
      Rename_Task: (call) => {
        const vm = selfVm(endpoint, call)
        const name = unescapeName(needText(call.args, 'newName'))
        refuseTwin(vm.folder, name, vm)
        return model.task(view, call, 'Rename_Task', call.self.ref, vm, async () => {
          vm.config.name = name
          if (vm.materialised) writeVmx(model, vm)
          await world.keep(vm, 'name', 'config', 'summary')
          return undefined
        })
      },
    },
    VirtualMachine: {
      ReconfigVM_Task: (call) => {
        const vm = selfVm(endpoint, call)
        const spec = needObject(call.args, 'spec')
        return model.task(view, call, 'ReconfigVM_Task', view.vmRef(vm), vm, async () => {
          await reconfigure(model, vm, spec)
          return undefined
        })
      },
      UnregisterVM: async (call) => {
        const vm = selfVm(endpoint, call)
        if (vm.power !== 'poweredOff') throw invalidPowerState('poweredOff', vm.power)
        await model.ensure(vm)
        saveSnapshots(model, vm)
        await remove(vm, false)
        return undefined
      },
      MarkAsTemplate: async (call) => {
        const vm = selfVm(endpoint, call)
        if (vm.power !== 'poweredOff') throw invalidPowerState('poweredOff', vm.power)
        vm.template = true
        vm.pool = undefined
        await world.keep(vm, 'config', 'summary', 'resourcePool')
        return undefined
      },
      MarkAsVirtualMachine: async (call) => {
        const vm = selfVm(endpoint, call)
        vm.pool = entityOf(endpoint, needReference(call.args, 'pool'), 'pool').id
        vm.template = false
        await world.keep(vm, 'config', 'summary', 'resourcePool')
        return undefined
      },
      CloneVM_Task: (call) => {
        const source = selfVm(endpoint, call)
        const name = unescapeName(needText(call.args, 'name'))
        const location = object(needObject(call.args, 'spec'), 'location')
        const folder = needReference(call.args, 'folder')
        return model.task(view, call, 'CloneVM_Task', view.vmRef(source), source, async (task) => {
          const at = place(folder, reference(location, 'pool') ?? view.refOf(source.pool), reference(location, 'host'))
          refuseTwin(at.folder, name)
          const wanted = reference(location, 'datastore')
          const store = wanted === undefined ? parseDatastorePath(source.path).datastore : entityOf(endpoint, wanted, 'datastore').name
          const path = pathFor(`[${store}]`, name)
          sees(at.host, path)
          await model.ensure(source)
          const home = directoryOf(path)
          if (model.files.exists(home)) throw fileAlreadyExists(home)
          const vm = emptyVm(model, { ...at, path, name })
          const fresh = vm.config
          vm.config = {
            ...structuredClone(source.config),
            name,
            uuid: fresh.uuid,
            instanceUuid: fresh.instanceUuid,
            changeVersion: 1,
            changeTracking: false,
          }
          vm.tools = source.tools
          mkdirSync(model.files.local(home), { recursive: true })
          try {
            for (const [index, disk] of disksOf(vm.config).entries()) {
              const from = model.files.at(disk.chain[0]?.path ?? '')
              const target = within(
                home,
                index === 0 ? `${basename(baseName(path), '.vmx')}.vmdk` : `${basename(baseName(path), '.vmx')}_${index}.vmdk`,
              )
              const to = model.files.at(target)
              await faultingAsync(target, () =>
                copyDisk(from.store, from.path, to.store, to.path, { thin: disk.thin, signal: task.signal }),
              )
              disk.chain = [{ path: target, kind: 'flat', contentId: world.seeded.hex(32, target) }]
              disk.uuid = world.seeded.uuid(target, vm.id).replace(/^.{7}/, '6000C29')
              disk.changeId = undefined
              task.progress(50 + (index / disksOf(vm.config).length) * 49)
            }
            for (const device of vm.config.devices) if (device.kind === 'nic') device.mac = world.seeded.mac(vm.id, device.key)
            writeVmx(model, vm)
          } catch (error) {
            rmSync(model.files.local(home), { recursive: true, force: true })
            throw error
          }
          vm.template = flag(object(call.args, 'spec'), 'template') ?? false
          await world.add(vm)
          await world.saveLab()
          return view.vmRef(vm)
        })
      },
      RelocateVM_Task: (call) => {
        const vm = selfVm(endpoint, call)
        const spec = needObject(call.args, 'spec')
        if (reference(spec, 'datastore') !== undefined) throw notSupported('The lab does not move disks between datastores.')
        const host = entityOf(endpoint, needReference(spec, 'host'), 'host')
        sees(host.id, vm.path)
        return model.task(view, call, 'RelocateVM_Task', view.vmRef(vm), vm, async () => {
          vm.host = host.id
          await world.keep(vm, 'runtime', 'summary')
          return undefined
        })
      },
      setCustomValue: async (call) => {
        const vm = selfVm(endpoint, call)
        const key = world.lab.customFields.find((field) => field.name === text(call.args, 'key'))?.key
        if (key === undefined) throw notFound(call.self.ref)
        vm.customValues[String(key)] = needText(call.args, 'value')
        await world.keep(vm, 'customValue', 'value')
        return undefined
      },
      ExportVm: async (call) => endpoint.leases.exportVm(call.session, selfVm(endpoint, call), undefined),
    },
    ResourcePool: {
      ImportVApp: async (call) => {
        const folder = reference(call.args, 'folder') ?? view.refOf(view.datacenter?.folders.vm)
        if (folder === undefined) throw invalidArgument('folder')
        const spec = object(needObject(call.args, 'spec'), 'configSpec')
        if (spec === undefined) throw invalidArgument('spec')
        const pool = call.self.ref
        const host = reference(call.args, 'host')
        return endpoint.leases.importVm(
          call.session,
          call.self.ref,
          (shown) => createVm(folder, pool, host, spec, shown),
          (vm) => remove(vm, true),
        )
      },
      CreateChildVM_Task: (call) => {
        const folder = view.refOf(
          view.datacenter?.folders.vm ?? world.datacenterOf(entityOf(endpoint, call.self.ref, 'pool').id)?.folders.vm,
        )
        if (folder === undefined) throw notSupported()
        return model.task(view, call, 'CreateChildVM_Task', call.self.ref, undefined, () =>
          createVm(folder, call.self.ref, reference(call.args, 'host'), needObject(call.args, 'config')),
        )
      },
    },
  }

  function pathFor(wanted: string, name: string): string {
    const parsed = parseDatastorePath(wanted === '' ? `[${view.datastores()[0]?.name ?? ''}]` : wanted)
    if (parsed.path.endsWith('.vmx')) return `[${parsed.datastore}] ${parsed.path}`
    const stem = name.replace(/[/\\[\]:*?"<>|%\p{Cc}]/gu, '_').replace(/^\.+/, '_')
    if (parsed.path !== '') return `[${parsed.datastore}] ${parsed.path}/${stem}.vmx`
    let directory = stem
    for (let number = 1; model.files.exists(`[${parsed.datastore}] ${directory}`); number++) directory = `${stem}_${number}`
    return `[${parsed.datastore}] ${directory}/${stem}.vmx`
  }
}
