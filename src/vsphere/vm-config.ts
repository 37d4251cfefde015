import { AgentError, type DatastoreRef, type MoRef, type PowerState, type VmConfig, type VmRef } from '../core/index.ts'
import { parseDevices, parseDisks } from './device.ts'
import { decodeName } from './inventory-tree.ts'
import type { ObjectProps } from './property-collector.ts'
import type { VimNode } from './vim-node.ts'

/** What `parseVmConfig` needs of a VirtualMachine. */
export const VM_PATHS: readonly string[] = Object.freeze([
  'name',
  'parent',
  'parentVApp',
  'config',
  'runtime.powerState',
  'runtime.connectionState',
  'runtime.host',
  'runtime.consolidationNeeded',
  'guest.toolsRunningStatus',
  'capability.changeTrackingSupported',
  'snapshot',
  'datastore',
  'network',
])

/** Facts outside the VM's own properties. */
export type VmSurroundings = {
  readonly vcenterUuid: string
  /** Inventory path. */
  readonly path: string
  readonly hostName: string
  readonly datastores: readonly DatastoreRef[]
  /** Names of networks by the id of their reference. */
  readonly networks?: ReadonlyMap<string, string> | undefined
}

export const vmMoRef = (vm: Pick<VmRef, 'moref'>): MoRef => ({ type: 'VirtualMachine', value: vm.moref })

export function parsePowerState(text: string | undefined): PowerState {
  if (text === 'poweredOn' || text === 'poweredOff' || text === 'suspended') return text
  throw new AgentError('INTEGRITY', `The server gave the power state ${JSON.stringify(text ?? null)}, which is not known.`)
}

/** A VM's properties as a VmConfig; UNAVAILABLE with the reason when `config` is unset (inaccessible, orphaned, being created). */
export function parseVmConfig(vm: ObjectProps, around: VmSurroundings): VmConfig {
  const { props } = vm
  const config = props.get('config')
  const name = decodeName(props.get('name')?.text ?? config?.string('name') ?? vm.obj.value)
  const connectionState = props.get('runtime.connectionState')?.text ?? 'unknown'
  if (config === undefined) throw unreadable(name, connectionState, vm.missing.get('config'))
  const base: VmConfig = {
    vm: {
      moref: vm.obj.value,
      name,
      instanceUuid: config.string('instanceUuid') ?? '',
      biosUuid: config.string('uuid') ?? '',
      vcenterUuid: around.vcenterUuid,
      path: around.path,
    },
    powerState: parsePowerState(props.get('runtime.powerState')?.text),
    connectionState,
    isTemplate: config.boolean('template') ?? false,
    guestId: '',
    guestFullName: '',
    hardwareVersion: '',
    firmware: 'bios',
    numCpu: 1,
    memoryMb: 0,
    annotation: '',
    vmPathName: '',
    changeTrackingSupported: props.get('capability.changeTrackingSupported')?.asBoolean() ?? false,
    changeTrackingEnabled: false,
    toolsRunning: toolsRunning(props.get('guest.toolsRunningStatus')?.text),
    consolidationNeeded: props.get('runtime.consolidationNeeded')?.asBoolean() ?? false,
    snapshotCount: countSnapshots(props.get('snapshot')?.all('rootSnapshotList') ?? []),
    disks: [],
    devices: [],
    extraConfig: {},
    host: { moref: props.get('runtime.host')?.text ?? '', name: around.hostName },
    datastores: around.datastores,
    encrypted: false,
  }
  return withConfigInfo(base, config, around.networks)
}

export const toolsRunning = (status: string | undefined): boolean =>
  status === 'guestToolsRunning' || status === 'guestToolsExecutingScripts'

/** The same VM with what a VirtualMachineConfigInfo (a snapshot's `config`) says: hardware, disks with their frozen files, extraConfig. */
export function withConfigInfo(base: VmConfig, config: VimNode, networks?: ReadonlyMap<string, string>): VmConfig {
  const devices = config.get('hardware')?.all('device') ?? []
  return {
    ...base,
    guestId: config.string('guestId') ?? base.guestId,
    guestFullName: config.string('guestFullName') ?? base.guestFullName,
    hardwareVersion: config.string('version') ?? base.hardwareVersion,
    firmware: config.string('firmware') ?? base.firmware,
    numCpu: config.number('hardware.numCPU') ?? base.numCpu,
    memoryMb: config.number('hardware.memoryMB') ?? base.memoryMb,
    annotation: config.string('annotation') ?? '',
    vmPathName: config.string('files.vmPathName') ?? base.vmPathName,
    changeTrackingEnabled: config.boolean('changeTrackingEnabled') ?? false,
    disks: parseDisks(devices),
    devices: withKnownNetworks(parseDevices(devices, networks), base),
    extraConfig: Object.fromEntries(config.all('extraConfig').map((entry) => [entry.string('key') ?? '', entry.string('value') ?? ''])),
    encrypted: config.get('keyId') !== undefined,
  }
}

/** A snapshot's config shows the same adapters without a way to look their port groups up, so the names found before are kept. */
function withKnownNetworks(devices: VmConfig['devices'], base: VmConfig): VmConfig['devices'] {
  const before = new Map(base.devices.map((device) => [device.key, device]))
  return devices.map((device) => {
    const same = before.get(device.key)
    return same?.network !== undefined && same.summary === device.summary ? { ...device, network: same.network } : device
  })
}

export function countSnapshots(nodes: readonly VimNode[]): number {
  let count = 0
  for (const node of nodes) count += 1 + countSnapshots(node.all('childSnapshotList'))
  return count
}

function unreadable(name: string, connectionState: string, fault: string | undefined): AgentError {
  const why =
    fault === 'NoPermission'
      ? 'the user may not read its configuration'
      : connectionState === 'connected'
        ? 'it has no configuration yet; it is being created'
        : `its connection state is ${connectionState}`
  return new AgentError(fault === 'NoPermission' ? 'AUTH' : 'UNAVAILABLE', `The VM ${name} cannot be read: ${why}.`, {
    subject: name,
    next: fault === 'NoPermission' ? 'Grant System.Read on the VM.' : 'Look at the VM and its host in vCenter, then run the command again.',
    retry: 'later',
  })
}
