import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { type Datastore, replaceFile } from './datastore.ts'
import { translated } from './storage-error.ts'
import { type VmxBus, type VmxDisk, VmxFile } from './vmx-file.ts'

export type VmDescription = {
  readonly name: string
  readonly guestId: string
  readonly hardwareVersion: number
  readonly firmware: 'bios' | 'efi'
  readonly numCpu: number
  readonly memoryMb: number
  readonly annotation?: string | undefined
  /** 8-4-4-4-12 form. */
  readonly biosUuid: string
  readonly instanceUuid: string
  readonly controllers: readonly {
    readonly bus: VmxBus
    readonly busNumber: number
    readonly virtualDev: string
    readonly sharedBus?: string | undefined
  }[]
  readonly disks: readonly VmxDisk[]
  readonly ethernet: readonly { readonly virtualDev: string; readonly networkName: string; readonly macAddress: string }[]
  readonly ctkEnabled: boolean
  /** Further keys, written as they are. */
  readonly extra?: Readonly<Record<string, string>> | undefined
}

const NVRAM_BYTES = 8684

/** The VMX that ESXi would write for this VM. */
export function vmxOf(vm: VmDescription): VmxFile {
  const file = new VmxFile()
    .set('config.version', '8')
    .set('virtualHW.version', `${vm.hardwareVersion}`)
    .set('displayName', vm.name)
    .set('guestOS', vm.guestId.replace(/Guest$/, '').replace(/_(64)$/, '-$1'))
    .set('firmware', vm.firmware)
    .set('numvcpus', `${vm.numCpu}`)
    .set('memSize', `${vm.memoryMb}`)
    .set('uuid.bios', vmxUuid(vm.biosUuid))
    .set('vc.uuid', vmxUuid(vm.instanceUuid))
    .set('nvram', `${fileStem(vm.name)}.nvram`)
    .set('tools.syncTime', 'FALSE')
    .set('pciBridge0.present', 'TRUE')
    .set('floppy0.present', 'FALSE')
  if (vm.annotation !== undefined) file.set('annotation', vm.annotation)
  if (vm.ctkEnabled) file.set('ctkEnabled', 'TRUE')
  for (const controller of vm.controllers) {
    const key = `${controller.bus}${controller.busNumber}`
    file.set(`${key}.present`, 'TRUE')
    if (controller.bus === 'scsi') {
      file.set(`${key}.virtualDev`, controller.virtualDev).set(`${key}.sharedBus`, controller.sharedBus ?? 'none')
    }
  }
  for (const disk of vm.disks) {
    const key = `${disk.bus}${disk.busNumber}:${disk.unitNumber}`
    file.set(`${key}.present`, 'TRUE').set(`${key}.fileName`, disk.fileName).set(`${key}.deviceType`, disk.deviceType)
    if (disk.mode !== 'persistent') file.set(`${key}.mode`, disk.mode)
    if (disk.ctkEnabled) file.set(`${key}.ctkEnabled`, 'TRUE')
  }
  for (const [index, adapter] of vm.ethernet.entries()) {
    const key = `ethernet${index}`
    file.set(`${key}.present`, 'TRUE').set(`${key}.virtualDev`, adapter.virtualDev).set(`${key}.networkName`, adapter.networkName)
    file.set(`${key}.addressType`, 'vpx').set(`${key}.generatedAddress`, adapter.macAddress)
  }
  for (const [key, value] of Object.entries(vm.extra ?? {})) file.set(key, value)
  return file
}

/** Writes `dir/name.vmx` (atomically), and `.nvram`, `.vmsd`, `vmware.log` when they are not there. `name` is a safe file name. */
export function writeVmFiles(datastore: Datastore, directory: string, name: string, vmx: VmxFile): void {
  const at = (file: string): string => datastore.path(`${directory}/${file}`)
  translated(datastore.datastorePath(directory), () => mkdirSync(datastore.path(directory), { recursive: true }))
  const named = vmx.get('nvram') ?? `${name}.nvram`
  const nvram = Buffer.alloc(NVRAM_BYTES)
  nvram.write('MRVN', 'latin1')
  const log = `vmx| I125: Log for VMware ESX (vcb lab)\nvmx| I125: displayName = "${(vmx.get('displayName') ?? name).replace(/\s+/g, ' ')}"\n`
  for (const [file, data] of [
    [named, nvram],
    [`${name}.vmsd`, '.encoding = "UTF-8"\n'],
    ['vmware.log', log],
  ] as const) {
    if (file.includes('/') || existsSync(at(file))) continue
    datastore.charge(data.length)
    translated(file, () => writeFileSync(at(file), data))
  }
  const text = vmx.format()
  datastore.charge(text.length)
  replaceFile(at(`${name}.vmx`), text, datastore.datastorePath(`${directory}/${name}.vmx`))
}

/** `42 1b 5c … 8d-e1 …`, as `uuid.bios` is written. */
function vmxUuid(uuid: string): string {
  const hex = uuid.replaceAll('-', '').toLowerCase()
  const pairs = hex.match(/../g) ?? []
  return `${pairs.slice(0, 8).join(' ')}-${pairs.slice(8).join(' ')}`
}

/** The VM's own files are named after it, without what a file name cannot hold. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being replaced
const fileStem = (name: string): string =>
  name
    .replace(/[\u0000-\u001f\u007f/\\%]/g, '_')
    .replace(/^\.+/, '_')
    .slice(0, 80)
