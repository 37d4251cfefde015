import { type Abortable, AgentError, type PowerState } from '../core/index.ts'
import { countSnapshots, listHosts, parseDisks, parsePowerState, toolsRunning, type Vsphere } from '../vsphere/index.ts'
import type { VmRef } from '../core/index.ts'
import { selectVms } from './selection.ts'
import { type ScannedVm, scanVms } from './vm-scan.ts'

/** One line of `vcb vms`. */
export type VmRow = {
  readonly vm: VmRef
  readonly powerState: PowerState
  readonly isTemplate: boolean
  readonly disks: number
  /** Sum of the disks' capacities, bytes. */
  readonly capacityBytes: number
  readonly changeTracking: 'on' | 'off' | 'unsupported'
  readonly toolsRunning: boolean
  readonly snapshots: number
  readonly host: string
  readonly guestFullName: string
  /** Why this VM cannot be backed up now (inaccessible, orphaned, template); undefined when it can. */
  readonly problem: string | undefined
}

const PATHS = [
  'config.hardware.device',
  'config.guestFullName',
  'config.changeTrackingEnabled',
  'capability.changeTrackingSupported',
  'guest.toolsRunningStatus',
  'snapshot',
  'runtime.host',
]

/** Rows for `vcb vms`, streamed in the server's order; all VMs and templates when no expression is given. Errors as `selectVms`. */
export async function* listVms(vsphere: Vsphere, expressions: readonly string[] = [], options?: Abortable): AsyncGenerator<VmRow> {
  const selected =
    expressions.length === 0
      ? undefined
      : new Set((await selectVms(vsphere, expressions, { ...options, bulk: true })).map(({ moref }) => moref))
  const hosts = new Map((await listHosts(vsphere, undefined, options)).map(({ moref, name }) => [moref.value, name]))
  for await (const scanned of scanVms(vsphere, PATHS, options)) {
    if (selected === undefined || selected.has(scanned.vm.moref)) yield row(scanned, hosts)
  }
}

function row(scanned: ScannedVm, hosts: ReadonlyMap<string, string>): VmRow {
  const { props, missing } = scanned.props
  const devices = props.get('config.hardware.device')
  const disks = devices === undefined ? [] : parseDisks(devices.items())
  const supported = props.get('capability.changeTrackingSupported')?.asBoolean() ?? false
  const enabled = props.get('config.changeTrackingEnabled')?.asBoolean() ?? false
  return {
    vm: scanned.vm,
    powerState: readPowerState(scanned.powerState),
    isTemplate: scanned.isTemplate,
    disks: disks.length,
    capacityBytes: disks.reduce((sum, { capacityBytes }) => sum + capacityBytes, 0),
    changeTracking: enabled ? 'on' : supported ? 'off' : 'unsupported',
    toolsRunning: toolsRunning(props.get('guest.toolsRunningStatus')?.text),
    snapshots: countSnapshots(props.get('snapshot')?.all('rootSnapshotList') ?? []),
    host: hosts.get(props.get('runtime.host')?.text ?? '') ?? '',
    guestFullName: props.get('config.guestFullName')?.text ?? '',
    problem: problem(scanned, devices !== undefined, missing.get('config.hardware.device')),
  }
}

/** A VM that cannot be read has no power state to show; it counts as off, and `problem` says more. */
function readPowerState(text: string): PowerState {
  try {
    return parsePowerState(text)
  } catch (error) {
    if (error instanceof AgentError) return 'poweredOff'
    throw error
  }
}

function problem(scanned: ScannedVm, hasConfig: boolean, fault: string | undefined): string | undefined {
  if (fault === 'NoPermission') return 'the user may not read its configuration'
  if (scanned.connectionState !== 'connected')
    return `its connection state is ${scanned.connectionState === '' ? 'unknown' : scanned.connectionState}`
  if (!hasConfig) return 'it has no configuration; it is being created or its files are gone'
  return scanned.isTemplate ? 'it is a template, which takes no snapshot' : undefined
}
