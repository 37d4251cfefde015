import type { DeviceRef, DiskFacts, VmConfig } from '../core/index.ts'

export type OvfRequest = {
  readonly config: VmConfig
  readonly disks: readonly DiskFacts[]
  readonly name: string
  /** Set as the VM's annotation, so that the VM is found by it while the restore runs. */
  readonly annotation: string
  /** Old network name → name in the descriptor; a card whose network is not listed is left out of the network section and disconnected. */
  readonly networks: ReadonlyMap<string, string>
}

const CONTROLLERS: Readonly<Record<string, readonly [resourceType: number, subType: string]>> = {
  VirtualLsiLogicController: [6, 'lsilogic'],
  VirtualLsiLogicSASController: [6, 'lsilogicsas'],
  ParaVirtualSCSIController: [6, 'VirtualSCSI'],
  VirtualBusLogicController: [6, 'buslogic'],
  VirtualIDEController: [5, ''],
  VirtualAHCIController: [20, 'vmware.sata.ahci'],
  VirtualNVMEController: [20, 'vmware.nvme.controller'],
}
const ADAPTERS: Readonly<Record<string, string>> = {
  VirtualVmxnet3: 'VmxNet3',
  VirtualE1000: 'E1000',
  VirtualE1000e: 'E1000e',
  VirtualVmxnet2: 'VmxNet2',
  VirtualPCNet32: 'PCNet32',
  VirtualSriovEthernetCard: 'VmxNet3',
}

/** Identifies a disk's file inside the descriptor: `disk-0.vmdk` is the first of `disks`. */
export const ovfFileName = (index: number): string => `disk-${index}.vmdk`

/**
 * An OVF 1.1 descriptor (DMTF DSP0243) of the VM with empty disks, for CreateImportSpec: processors, memory, storage controllers that hold a
 * restored disk, the disks at their old places, network cards. What OVF cannot say is set by ReconfigVM after the import.
 */
export function ovfDescriptor(request: OvfRequest): string {
  const { config, disks } = request
  const items: string[] = []
  const addItem = (fields: readonly (readonly [string, string | number | boolean | undefined])[]): void => {
    const lines = fields
      .filter(([, value]) => value !== undefined && value !== '')
      .map(([key, value]) => `<rasd:${key}>${escape(String(value))}</rasd:${key}>`)
    items.push(`<Item>${lines.join('')}</Item>`)
  }
  addItem([
    ['ElementName', `${config.numCpu} virtual CPU`],
    ['InstanceID', 1],
    ['ResourceType', 3],
    ['VirtualQuantity', config.numCpu],
  ])
  addItem([
    ['AllocationUnits', 'byte * 2^20'],
    ['ElementName', `${config.memoryMb} MB of memory`],
    ['InstanceID', 2],
    ['ResourceType', 4],
    ['VirtualQuantity', config.memoryMb],
  ])

  let instance = 3
  const controllerIds = new Map<number, number>()
  for (const controller of controllersOf(config, disks)) {
    const [resourceType, subType] = CONTROLLERS[controller.type] ?? [6, 'lsilogic']
    controllerIds.set(controller.key, instance)
    addItem([
      ['Address', controller.busNumber ?? 0],
      ['ElementName', controller.label],
      ['InstanceID', instance++],
      ['ResourceSubType', subType],
      ['ResourceType', resourceType],
    ])
  }
  for (const [index, disk] of disks.entries()) {
    const place = placeOf(config, disk)
    addItem([
      ['AddressOnParent', place?.unit ?? index],
      ['ElementName', `Hard disk ${index + 1}`],
      ['HostResource', `ovf:/disk/vmdisk${index}`],
      ['InstanceID', instance++],
      ['Parent', controllerIds.get(place?.controllerKey ?? -1)],
      ['ResourceType', 17],
    ])
  }
  for (const [index, card] of networkCards(config).entries()) {
    const network = card.network === undefined ? undefined : request.networks.get(card.network)
    if (network === undefined) continue
    addItem([
      ['AddressOnParent', index],
      ['AutomaticAllocation', true],
      ['Connection', network],
      ['ElementName', card.label],
      ['InstanceID', instance++],
      ['ResourceSubType', ADAPTERS[card.type] ?? 'VmxNet3'],
      ['ResourceType', 10],
    ])
  }
  const networks = [...new Set(request.networks.values())]
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"',
    ' xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"',
    ' xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"',
    ' xmlns:vmw="http://www.vmware.com/schema/ovf">',
    `<References>${disks.map((_, index) => `<File ovf:href="${ovfFileName(index)}" ovf:id="file${index}"/>`).join('')}</References>`,
    '<DiskSection><Info>Virtual disks</Info>',
    ...disks.map(
      (disk, index) =>
        `<Disk ovf:capacity="${disk.capacityBytes}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk${index}" ovf:fileRef="file${index}" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>`,
    ),
    '</DiskSection>',
    `<NetworkSection><Info>Networks</Info>${networks.map((name) => `<Network ovf:name="${escape(name)}"><Description>${escape(name)}</Description></Network>`).join('')}</NetworkSection>`,
    `<VirtualSystem ovf:id="${escape(request.name)}"><Info>A virtual machine</Info><Name>${escape(request.name)}</Name>`,
    `<AnnotationSection><Info>Annotation</Info><Annotation>${escape(request.annotation)}</Annotation></AnnotationSection>`,
    `<OperatingSystemSection ovf:id="1" vmw:osType="${escape(config.guestId)}"><Info>Guest</Info></OperatingSystemSection>`,
    '<VirtualHardwareSection><Info>Virtual hardware</Info>',
    `<System><vssd:ElementName>Virtual Hardware Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemIdentifier>${escape(request.name)}</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>${escape(config.hardwareVersion)}</vssd:VirtualSystemType></System>`,
    ...items,
    `<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="${config.firmware === 'efi' ? 'efi' : 'bios'}"/>`,
    '</VirtualHardwareSection></VirtualSystem></Envelope>',
  ].join('\n')
}

const controllersOf = (config: VmConfig, disks: readonly DiskFacts[]): readonly DeviceRef[] => {
  const wanted = new Set(disks.map((disk) => placeOf(config, disk)?.controllerKey))
  return config.devices.filter((device) => device.type in CONTROLLERS && wanted.has(device.key))
}

/** Controller and unit of a disk, from the device list of the configuration. */
function placeOf(config: VmConfig, disk: DiskFacts): { readonly controllerKey: number; readonly unit: number } | undefined {
  const device = config.devices.find((each) => each.key === disk.key)
  return device?.controllerKey === undefined ? undefined : { controllerKey: device.controllerKey, unit: device.unitNumber ?? 0 }
}

/** Network cards of a VM in the order of their keys. */
export const networkCards = (config: VmConfig): readonly DeviceRef[] =>
  config.devices.filter((device) => device.type in ADAPTERS).sort((a, b) => a.key - b.key)

const escape = (text: string): string =>
  text
    // biome-ignore lint/suspicious/noControlCharactersInRegex: characters XML 1.0 cannot carry are removed
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
