import { AgentError, type DeviceRef, type MoRef, type VmConfig } from '../core/index.ts'
import { streamOptimized } from '../disk/index.ts'
import type { Claims } from '../journal/index.ts'
import type { JobLimits } from '../transport/index.ts'
import {
  anyValue,
  createImportSpec,
  data,
  importVm,
  type LeaseDevice,
  reconfigureVm,
  retrieveOne,
  typed,
  type VimData,
  type VimNode,
} from '../vsphere/index.ts'
import { paced } from './paced.ts'
import { networkCards, ovfDescriptor, ovfFileName } from './ovf.ts'
import type { RestoreOptions } from './restore-directory.ts'
import { type Imported, type VmImport, wholly } from './vm-import.ts'

/**
 * Imports through an NFC lease (CreateImportSpec, ImportVApp): vSphere makes the VM, its empty disks and their places; each disk is sent as a
 * streamOptimized VMDK, so that areas without data are never written. An aborted or expired lease removes the VM by itself.
 */
export async function importByLease(work: VmImport, limits: JobLimits, claims: Claims, options: RestoreOptions): Promise<Imported> {
  // Before the lease, which would run out while one waits; its disks go one after the other.
  await using _stream = await limits.stream(work.placement.datastore, options)
  const { vsphere, disks, placement, name } = work
  const { config } = work.reader.manifest
  const networks = new Map<string, string>()
  for (const [old, target] of work.networks) if (target !== null) networks.set(old, target)
  const held = await claims.take(
    'registeredVm',
    { vcenterUuid: vsphere.about.instanceUuid, name, vmPathName: `[${placement.datastore.name}]` },
    work.replaced === undefined ? [] : [work.replaced],
    async (claim) => {
      const ovf = ovfDescriptor({ config, disks, name, annotation: work.marks.text('vm', claims.job, claim), networks })
      const { spec, items, warnings } = await createImportSpec(
        vsphere,
        ovf,
        {
          pool: placement.pool,
          datastore: { type: 'Datastore', value: placement.datastore.moref },
          host: placement.host?.moref,
          name,
          networks: [...work.networkRefs].map(([network, moref]) => ({ name: network, network: moref })),
          diskProvisioning: disks.every((disk) => disk.thin) ? 'thin' : 'thick',
        },
        options,
      )
      work.warnings.push(...warnings)
      await using lease = await importVm(
        vsphere,
        { pool: placement.pool, folder: placement.folder, host: placement.host?.moref },
        spec,
        options,
      )
      for (const [index, disk] of disks.entries()) {
        const file = ovfFileName(index)
        const item = items.find((each) => each.path === file)
        const device = lease.devices.find((each) => item !== undefined && matches(each, item.deviceId))
        if (device === undefined) {
          throw new AgentError('UNAVAILABLE', `The import lease names no upload for ${disk.label}.`, {
            subject: disk.label,
            retry: 'never',
            next: 'Restore with --transport nbdssl or --transport https.',
          })
        }
        await using source = await work.readDisk(disk)
        const report = (doneBytes: number): void => {
          options.onProgress?.({ disk: disk.label, doneBytes, totalBytes: disk.capacityBytes })
          lease.progress(Math.floor(((index + doneBytes / disk.capacityBytes) / disks.length) * 100))
        }
        const body = streamOptimized(source, file, { signal: options.signal, onProgress: (at) => report(at.doneBytes) })
        await lease.upload(device, paced(body, limits, options), undefined, options)
      }
      if (lease.entity === undefined) {
        throw new AgentError('UNAVAILABLE', `The import lease of ${name} names no VM.`, {
          subject: name,
          retry: 'never',
          next: 'Restore with --transport nbdssl or --transport https.',
        })
      }
      await lease.complete(options)
      return { moref: lease.entity.value }
    },
  )
  const vm: MoRef = { type: 'VirtualMachine', value: held.ref.moref }
  await reconfigureVm(vsphere, vm, await finalSettings(work, vm, options), { signal: options.signal })
  return { vm, claim: held.id, keep: [held.id], thin: true, disks: wholly(work, 'lease', 'import lease'), unmark: async () => {} }
}

/** importKey names the item on real servers; some simulators repeat it in `key` only. */
const matches = (device: LeaseDevice, deviceId: string): boolean => device.importKey === deviceId || device.key === deviceId

/** What OVF cannot say: identity, firmware, extraConfig, MAC addresses. */
async function finalSettings(work: VmImport, vm: MoRef, options: RestoreOptions): Promise<VimData> {
  const { config } = work.reader.manifest
  const extraConfig = Object.entries(config.extraConfig)
    .filter(([key]) => !NOT_CARRIED.test(key))
    .map(([key, value]) => data({ key, value: anyValue('xsd:string', value) }))
  const cards = work.keepIdentity ? await cardEdits(work, vm, config, options) : []
  return data({
    ...(work.keepIdentity ? { uuid: config.vm.biosUuid, instanceUuid: config.vm.instanceUuid } : {}),
    deviceChange: cards,
    extraConfig,
    firmware: config.firmware === 'efi' ? 'efi' : 'bios',
  })
}

/** Keys the server keeps for itself, that belong to the old place, or to change tracking. */
const NOT_CARRIED =
  /ctkenabled$|^(sched|migrate|vmotion|checkpoint|snapshot|monitor|svga|pcibridge\d|hpet\d|numa|cpuid|toolsinstall|vmware\.tools|softpoweroff|viv|vmxstats|guestinfo\.(vmtools|appinfo|detailed)|scsi\d+|sata\d+|nvme\d+|ide\d+|ethernet\d+|usb|nvram|tools\.(guest|upgrade)|evcCompatibilityMode|virtualhw)/i

async function cardEdits(work: VmImport, vm: MoRef, config: VmConfig, options: RestoreOptions): Promise<readonly VimData[]> {
  const { props } = await retrieveOne(work.vsphere, vm, ['config.hardware.device'], options)
  const made = (props.get('config.hardware.device')?.items() ?? []).filter((device) => device.get('macAddress') !== undefined)
  const old: readonly DeviceRef[] = networkCards(config).filter(
    (card) => card.network !== undefined && work.networks.get(card.network) !== null,
  )
  return made.flatMap((device: VimNode, index) => {
    const macAddress = old[index]?.macAddress
    if (macAddress === undefined) return []
    const edited = typed(device.type ?? 'VirtualVmxnet3', {
      key: device.number('key'),
      backing: device.get('backing'),
      connectable: device.get('connectable'),
      controllerKey: device.number('controllerKey'),
      unitNumber: device.number('unitNumber'),
      addressType: 'manual',
      macAddress,
    })
    return [typed('VirtualDeviceConfigSpec', { operation: 'edit', device: edited })]
  })
}
