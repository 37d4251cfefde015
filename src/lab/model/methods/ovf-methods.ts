import { SaxesParser } from 'saxes'
import { type LabObject, type LabValue, type Methods, VimFault } from '../../wire/index.ts'
import { needObject, needReference, needText, objects, number, text } from '../arguments.ts'
import { type Endpoint, entityOf, vmOf } from '../endpoint.ts'
import { controllerPrefix, disksOf, type VmRecord } from '../record.ts'

/** OvfManager: a descriptor for an exported VM, and an import specification from a descriptor. */
export function ovfMethods(endpoint: Endpoint): Methods {
  return {
    OvfManager: {
      CreateDescriptor: (call) => {
        const vm = vmOf(endpoint, needReference(call.args, 'obj'))
        const params = needObject(call.args, 'cdp')
        return {
          $type: 'OvfCreateDescriptorResult',
          ovfDescriptor: descriptorOf(vm, text(params, 'name') ?? vm.config.name, objects(params, 'ovfFiles')),
          includeImageFiles: false,
        }
      },
      CreateImportSpec: (call) => {
        const store = entityOf(endpoint, needReference(call.args, 'datastore'), 'datastore')
        const params = needObject(call.args, 'cisp')
        let parsed: Ovf
        try {
          parsed = parseOvf(needText(call.args, 'ovfDescriptor'))
        } catch (error) {
          const fault = new VimFault(
            'OvfInvalidPackage',
            { lineNumber: 0 },
            `The descriptor cannot be read: ${error instanceof Error ? error.message : ''}`,
          )
          return { $type: 'OvfCreateImportSpecResult', error: [fault.localized] }
        }
        const name = text(params, 'entityName') ?? ''
        return importSpec(
          parsed,
          name === '' ? parsed.name : name,
          store.name,
          text(params, 'diskProvisioning') ?? 'thin',
          objects(params, 'networkMapping').map((mapping) => [
            text(mapping, 'name') ?? '',
            endpoint.view.find(needReference(mapping, 'network').value),
          ]),
        )
      },
    },
  }
}

const escape = (value: string): string => value.replace(/[<>&"]/g, (character) => `&#${character.charCodeAt(0)};`)

/** An OVF 1.1 envelope of one VM. */
function descriptorOf(vm: VmRecord, name: string, files: readonly LabObject[]): string {
  const disks = disksOf(vm.config)
  const references: string[] = []
  const diskSection: string[] = []
  const items: string[] = []
  let instance = 3
  items.push(
    item(1, 'Number of virtual CPUs', 3, `<rasd:VirtualQuantity>${vm.config.cpus}</rasd:VirtualQuantity>`),
    item(
      2,
      'Memory',
      4,
      `<rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:VirtualQuantity>${vm.config.memoryMb}</rasd:VirtualQuantity>`,
    ),
  )
  const controllers = new Map<number, number>()
  for (const device of vm.config.devices) {
    if (device.kind !== 'controller') continue
    controllers.set(device.key, instance)
    const prefix = controllerPrefix(device.controller)
    const type = prefix === 'scsi' ? 6 : prefix === 'ide' ? 5 : 20
    const subtype = {
      lsilogic: 'lsilogic',
      lsisas: 'lsilogicsas',
      pvscsi: 'VirtualSCSI',
      buslogic: 'buslogic',
      sata: 'vmware.sata.ahci',
      ide: '',
      nvme: 'vmware.nvme.controller',
    }[device.controller]
    items.push(
      item(
        instance++,
        `${prefix} controller ${device.bus}`,
        type,
        `<rasd:Address>${device.bus}</rasd:Address>${subtype === '' ? '' : `<rasd:ResourceSubType>${subtype}</rasd:ResourceSubType>`}`,
      ),
    )
  }
  files.forEach((file, index) => {
    const deviceId = text(file, 'deviceId') ?? ''
    const disk = disks.find((_candidate, at) => deviceId.endsWith(`disk-${at}.vmdk`)) ?? disks[index]
    references.push(`<File ovf:id="file${index}" ovf:href="${escape(text(file, 'path') ?? '')}" ovf:size="${number(file, 'size') ?? 0}"/>`)
    if (disk === undefined) return
    diskSection.push(
      `<Disk ovf:diskId="vmdisk${index}" ovf:fileRef="file${index}" ovf:capacity="${disk.capacity}" ovf:capacityAllocationUnits="byte" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>`,
    )
    items.push(
      item(
        instance++,
        `disk${index}`,
        17,
        `<rasd:AddressOnParent>${disk.unit}</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/vmdisk${index}</rasd:HostResource><rasd:Parent>${controllers.get(disk.controllerKey) ?? 3}</rasd:Parent>`,
      ),
    )
  })
  const networks = new Set<string>()
  for (const device of vm.config.devices) {
    if (device.kind !== 'nic') continue
    networks.add(device.network)
    items.push(
      item(
        instance++,
        `ethernet${device.key - 4000}`,
        10,
        `<rasd:AddressOnParent>${device.unit}</rasd:AddressOnParent><rasd:Connection>${escape(device.network)}</rasd:Connection><rasd:ResourceSubType>${device.nic}</rasd:ResourceSubType>`,
      ),
    )
  }
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
<References>${references.join('')}</References>
<DiskSection><Info>Virtual disk information</Info>${diskSection.join('')}</DiskSection>
<NetworkSection><Info>The list of logical networks</Info>${[...networks].map((network) => `<Network ovf:name="${escape(network)}"/>`).join('')}</NetworkSection>
<VirtualSystem ovf:id="${escape(name)}"><Info>A virtual machine</Info><Name>${escape(name)}</Name>
<OperatingSystemSection ovf:id="1" vmw:osType="${escape(vm.config.guestId)}"><Info>The kind of installed guest operating system</Info></OperatingSystemSection>
<VirtualHardwareSection><Info>Virtual hardware requirements</Info><System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-${String(vm.config.hardware).padStart(2, '0')}</vssd:VirtualSystemType></System>
${items.join('\n')}
</VirtualHardwareSection></VirtualSystem></Envelope>
`
}

const item = (instance: number, name: string, type: number, rest: string): string => {
  // The schema wants the elements in the order of their names.
  const all = `<rasd:ElementName>${escape(name)}</rasd:ElementName><rasd:InstanceID>${instance}</rasd:InstanceID><rasd:ResourceType>${type}</rasd:ResourceType>${rest}`
  const parts = [...all.matchAll(/<(rasd:\w+)>.*?<\/\1>/gs)].map((match) => match[0]).sort((a, b) => (a < b ? -1 : 1))
  return `<Item>${parts.join('')}</Item>`
}

type OvfItem = Record<string, string>
type Ovf = {
  name: string
  guestId: string
  hardware: string
  annotation: string
  files: Map<string, { href: string; size: number | undefined }>
  disks: Map<string, { fileRef: string | undefined; capacity: number }>
  items: OvfItem[]
}

/** The parts of an OVF descriptor that an import of one VM needs. Throws for what is not one. */
function parseOvf(xml: string): Ovf {
  if (xml.length > 4_194_304) throw new Error('it is too large')
  const parser = new SaxesParser({ xmlns: true })
  const found: Ovf = { name: '', guestId: 'otherGuest64', hardware: '', annotation: '', files: new Map(), disks: new Map(), items: [] }
  const path: string[] = []
  let current: OvfItem | undefined
  let words = ''
  let failed: Error | undefined
  const attribute = (tag: { attributes: Record<string, { local: string; value: string }> }, name: string): string | undefined =>
    Object.values(tag.attributes).find((candidate) => candidate.local === name)?.value
  parser.on('error', (error) => {
    failed ??= error
  })
  parser.on('opentag', (tag) => {
    path.push(tag.local)
    words = ''
    if (path.length > 64) failed ??= new Error('it is nested too deeply')
    if (tag.local === 'File')
      found.files.set(attribute(tag, 'id') ?? '', {
        href: attribute(tag, 'href') ?? '',
        size: Number(attribute(tag, 'size') ?? 0) || undefined,
      })
    else if (tag.local === 'Disk') {
      found.disks.set(attribute(tag, 'diskId') ?? '', {
        fileRef: attribute(tag, 'fileRef'),
        capacity: Number(attribute(tag, 'capacity') ?? 0) * unitOf(attribute(tag, 'capacityAllocationUnits')),
      })
    } else if (tag.local === 'OperatingSystemSection') found.guestId = attribute(tag, 'osType') ?? found.guestId
    else if (tag.local === 'VirtualSystem') found.name = attribute(tag, 'id') ?? ''
    else if (tag.local === 'Item' || tag.local === 'StorageItem' || tag.local === 'EthernetPortItem') current = {}
  })
  parser.on('text', (piece) => {
    if (words.length < 65_536) words += piece
  })
  parser.on('closetag', (tag) => {
    path.pop()
    if (tag.local === 'Name' && path.at(-1) === 'VirtualSystem') found.name = words.trim()
    else if (tag.local === 'Annotation' && path.at(-1) === 'AnnotationSection') found.annotation = words.trim()
    else if (tag.local === 'VirtualSystemType') found.hardware = words.trim().split(/\s+/).at(-1) ?? ''
    else if (tag.local === 'Item' || tag.local === 'StorageItem' || tag.local === 'EthernetPortItem') {
      if (current !== undefined) found.items.push(current)
      current = undefined
    } else if (current !== undefined) current[tag.local] = words.trim()
    words = ''
  })
  parser.write(xml).close()
  if (failed !== undefined) throw failed
  if (found.items.length === 0) throw new Error('it has no virtual hardware')
  return found
}

function unitOf(text: string | undefined): number {
  const power = /2\^(\d+)/.exec(text ?? '')?.[1]
  return power === undefined ? 1 : 2 ** Number(power)
}

const CONTROLLER_TYPES: Readonly<Record<string, string>> = {
  lsilogic: 'VirtualLsiLogicController',
  lsilogicsas: 'VirtualLsiLogicSASController',
  virtualscsi: 'ParaVirtualSCSIController',
  buslogic: 'VirtualBusLogicController',
  'vmware.sata.ahci': 'VirtualAHCIController',
  'vmware.nvme.controller': 'VirtualNVMEController',
}

function importSpec(
  ovf: Ovf,
  name: string,
  store: string,
  provisioning: string,
  networks: readonly (readonly [string, { kind: string; name?: string } | undefined])[],
): LabObject {
  const changes: LabObject[] = []
  const fileItems: LabObject[] = []
  const keys = new Map<string, { key: number; prefix: string; bus: number }>()
  let provisional = -1
  let cpus = 1
  let memoryMb = 128
  const add = (device: LabObject, fileOperation?: string): void =>
    void changes.push({ $type: 'VirtualDeviceConfigSpec', operation: 'add', fileOperation, device })
  for (const entry of ovf.items) {
    const quantity = Number(entry['VirtualQuantity'] ?? 0)
    if (entry['ResourceType'] === '3') cpus = quantity
    if (entry['ResourceType'] === '4')
      memoryMb = Math.round((quantity * Math.max(unitOf(entry['AllocationUnits']), 1)) / 1_048_576) || quantity
    const bus = Number(entry['Address'] ?? 0) || 0
    if (entry['ResourceType'] === '5') keys.set(entry['InstanceID'] ?? '', { key: 200 + bus, prefix: 'VirtualIDEController', bus })
    if (entry['ResourceType'] === '6' || entry['ResourceType'] === '20') {
      const key = provisional--
      const type = CONTROLLER_TYPES[(entry['ResourceSubType'] ?? 'lsilogic').toLowerCase()] ?? 'VirtualLsiLogicController'
      const prefix = type.includes('SCSI') || type.includes('Logic') ? 'ParaVirtualSCSIController' : type
      keys.set(entry['InstanceID'] ?? '', { key, prefix, bus })
      add({ $type: type, key, busNumber: bus, ...(prefix === 'ParaVirtualSCSIController' ? { sharedBus: 'noSharing' } : {}) })
    }
  }
  for (const entry of ovf.items) {
    if (entry['ResourceType'] === '17') {
      const id = /\/disk\/(.+)$/.exec(entry['HostResource'] ?? '')?.[1] ?? ''
      const disk = ovf.disks.get(id)
      const controller = keys.get(entry['Parent'] ?? '')
      if (disk === undefined || controller === undefined) continue
      const unit = Number(entry['AddressOnParent'] ?? 0)
      add(
        {
          $type: 'VirtualDisk',
          key: provisional--,
          backing: {
            $type: 'VirtualDiskFlatVer2BackingInfo',
            fileName: '',
            diskMode: 'persistent',
            thinProvisioned: provisioning !== 'thick' && provisioning !== 'eagerZeroedThick',
          },
          controllerKey: controller.key,
          unitNumber: unit,
          capacityInKB: Math.ceil(disk.capacity / 1024),
        },
        'create',
      )
      const file = disk.fileRef === undefined ? undefined : ovf.files.get(disk.fileRef)
      if (file !== undefined)
        fileItems.push({
          $type: 'OvfFileItem',
          deviceId: `/${name}/${controller.prefix}${controller.bus}:${unit}`,
          path: file.href,
          size: file.size,
          cimType: 17,
          create: false,
        })
    }
    if (entry['ResourceType'] === '10') {
      const target = networks.find(([from]) => from === entry['Connection'])?.[1]
      const type =
        { vmxnet3: 'VirtualVmxnet3', e1000: 'VirtualE1000', e1000e: 'VirtualE1000e' }[(entry['ResourceSubType'] ?? '').toLowerCase()] ??
        'VirtualVmxnet3'
      add({
        $type: type,
        key: provisional--,
        backing: { $type: 'VirtualEthernetCardNetworkBackingInfo', deviceName: target?.name ?? entry['Connection'] ?? 'VM Network' },
        addressType: 'generated',
      })
    }
  }
  const config: LabValue = {
    $type: 'VirtualMachineConfigSpec',
    name,
    version: /^vmx-\d+$/.test(ovf.hardware) ? ovf.hardware : undefined,
    guestId: ovf.guestId,
    ...(ovf.annotation === '' ? {} : { annotation: ovf.annotation }),
    files: { $type: 'VirtualMachineFileInfo', vmPathName: `[${store}]` },
    numCPUs: cpus,
    memoryMB: memoryMb,
    deviceChange: changes,
  }
  return { $type: 'OvfCreateImportSpecResult', importSpec: { $type: 'VirtualMachineImportSpec', configSpec: config }, fileItem: fileItems }
}
