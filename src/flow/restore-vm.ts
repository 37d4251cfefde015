import {
  AgentError,
  anySignal,
  type Log,
  type Manifest,
  type Marks,
  type MoRef,
  type NotProtected,
  parseMark,
  toAgentError,
} from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import type { PointStore } from '../provider/index.ts'
import { isHostBoundDevice } from '../vmx/index.ts'
import {
  data,
  findPlacement,
  findVms,
  listNetworks,
  loadInventoryTree,
  type Placement,
  type PlacementWish,
  powerOn,
  reconfigureVm,
  retrieveOne,
  type Vsphere,
} from '../vsphere/index.ts'
import { importByFiles } from './import-by-files.ts'
import { importByLease } from './import-by-lease.ts'
import { recordLocks } from './record-locks.ts'
import type { RestoreOptions } from './restore-directory.ts'
import { chooseDisks } from './restored-disks.ts'
import type { VmImport } from './vm-import.ts'

export type VmRestoreRequest = {
  readonly point: string
  /** The restored VM's name; the old one when absent. */
  readonly name?: string | undefined
  readonly placement: PlacementWish
  /** Old network name → network at the target. Names not listed stay when the target has them, else the card is left disconnected. */
  readonly networks: Readonly<Record<string, string>>
  /** Replace a VM of this name in the target folder; it must be powered off. */
  readonly overwrite: boolean
  readonly powerOn: boolean
  /** Import lease (thin stays thin) or datastore files and RegisterVM. */
  readonly via: 'lease' | 'folder'
  /** Keep uuids and MAC addresses; for a VM that takes the place of the old one. */
  readonly keepIdentity: boolean
  readonly disks: readonly string[]
}

export type VmRestoreResult = {
  readonly vm: { readonly name: string; readonly moref: string }
  readonly datastore: string
  readonly host: string | undefined
  readonly disks: readonly { readonly label: string; readonly capacityBytes: number; readonly thin: boolean }[]
  /** Devices that could not be made again. */
  readonly dropped: readonly string[]
  readonly warnings: readonly string[]
  readonly notProtected: readonly NotProtected[]
  readonly replaced: boolean
  readonly poweredOn: boolean
}

/**
 * Restores a point as a VM in vSphere: placement → import of configuration and disks → final name and settings → the old VM goes, when it is to
 * be overwritten → power-on. Until the last step but one the new VM is a claim: a failure, cancel or crash removes it with its files, and the
 * VM that was to be overwritten stays. Errors: CONFLICT (name taken), NOT_FOUND, CAPACITY, INTEGRITY, UNAVAILABLE.
 */
export async function restoreVm(
  vsphere: Vsphere,
  points: PointStore,
  claims: Claims,
  request: VmRestoreRequest,
  asked: RestoreOptions & { readonly log: Log; readonly marks: Marks },
): Promise<VmRestoreResult> {
  await using hold = await points.hold({ signal: asked.signal, recordLocks: recordLocks(claims) })
  const options = { ...asked, signal: anySignal(asked.signal, hold.signal) }
  await using reader = await points.open(request.point, options)
  const { manifest } = reader
  const disks = chooseDisks(manifest, request.disks)
  const name = request.name ?? manifest.vm.name
  const placement = await findPlacement(vsphere, request.placement, {
    signal: options.signal,
    neededBytes: disks.reduce((sum, disk) => sum + (disk.thin ? 0 : disk.capacityBytes), 0),
  })
  const existing = await vmInFolder(vsphere, placement, name, options)
  if (existing !== undefined) await refuseExisting(vsphere, existing, name, request, options)

  const warnings: string[] = []
  const dropped: string[] = manifest.config.devices.filter(isHostBoundDevice).map((device) => device.summary ?? device.label)
  const { networks, refs } = await mapNetworks(vsphere, placement, manifest, request, warnings, options)
  const replaced =
    existing === undefined
      ? undefined
      : await claims.take(
          'replacedVm',
          { vcenterUuid: vsphere.about.instanceUuid, moref: existing.value, name, annotation: ownAnnotation(manifest) },
          [],
          async () => ({ moref: existing.value }),
        )
  const work: VmImport = {
    vsphere,
    reader,
    disks,
    placement,
    marks: options.marks,
    name: existing === undefined ? name : `${name} (being restored)`,
    networks,
    networkRefs: refs,
    keepIdentity: request.keepIdentity,
    replaced: replaced?.id,
    dropped,
    warnings,
  }
  const imported = request.via === 'lease' ? await importByLease(work, claims, options) : await importByFiles(work, claims, options)

  // Without the mark the VM is no longer found by it, so where another one is to be replaced it stays until that is done.
  if (replaced === undefined) await reconfigureVm(vsphere, imported.vm, data({ annotation: ownAnnotation(manifest) }))
  await imported.unmark()
  for (const claim of imported.keep) await claims.keep(claim)
  if (replaced !== undefined) await claims.release(replaced.id)
  let poweredOn = false
  if (request.powerOn) {
    try {
      await powerOn(vsphere, imported.vm, { signal: options.signal })
      poweredOn = true
    } catch (error) {
      warnings.push(`The VM is restored but could not be powered on: ${toAgentError(error).message}`)
    }
  }
  return {
    vm: { name, moref: imported.vm.value },
    datastore: placement.datastore.name,
    host: placement.host?.name,
    disks: disks.map((disk) => ({ label: disk.label, capacityBytes: disk.capacityBytes, thin: imported.thin && disk.thin })),
    dropped,
    warnings,
    notProtected: manifest.notProtected,
    replaced: existing !== undefined,
    poweredOn,
  }
}

/** A VM backed up while it was itself being restored has our mark as its annotation; given back, it would pass for a half-restored one. */
const ownAnnotation = ({ config }: Manifest): string => (parseMark('vm', config.annotation) === undefined ? config.annotation : '')

/** The VM of this name in the target folder. */
async function vmInFolder(vsphere: Vsphere, placement: Placement, name: string, options: RestoreOptions): Promise<MoRef | undefined> {
  const tree = await loadInventoryTree(vsphere, options)
  const found = await findVms(vsphere, { by: 'path', path: tree.join(placement.folder, name) }, options)
  return found[0]
}

async function refuseExisting(
  vsphere: Vsphere,
  existing: MoRef,
  name: string,
  request: VmRestoreRequest,
  options: RestoreOptions,
): Promise<void> {
  if (!request.overwrite) {
    throw new AgentError('CONFLICT', `There is a VM named ${name} in the target folder already.`, {
      subject: name,
      retry: 'never',
      next: 'Give the restored VM another name with --name, or replace the old one with --overwrite.',
    })
  }
  const { props } = await retrieveOne(vsphere, existing, ['runtime.powerState'], { signal: options.signal })
  if (props.get('runtime.powerState')?.text !== 'poweredOff') {
    throw new AgentError('CONFLICT', `The VM ${name} that is to be overwritten is powered on.`, {
      subject: name,
      retry: 'never',
      next: 'Power it off, then run the command again.',
    })
  }
}

async function mapNetworks(
  vsphere: Vsphere,
  placement: Placement,
  manifest: Manifest,
  request: VmRestoreRequest,
  warnings: string[],
  options: RestoreOptions,
): Promise<{ readonly networks: ReadonlyMap<string, string | null>; readonly refs: ReadonlyMap<string, MoRef> }> {
  const there = await listNetworks(vsphere, placement.datacenter.moref, options)
  const networks = new Map<string, string | null>()
  const refs = new Map<string, MoRef>()
  for (const old of new Set(manifest.config.devices.map((device) => device.network).filter((network) => network !== undefined))) {
    const wanted = request.networks[old] ?? old
    const found = there.find((network) => network.name === wanted)
    if (found === undefined && request.networks[old] !== undefined) {
      throw new AgentError('NOT_FOUND', `There is no network named ${wanted} in ${placement.datacenter.name}.`, {
        subject: wanted,
        next: `It has ${there.map((network) => network.name).join(', ')}.`,
      })
    }
    if (found === undefined) warnings.push(`Network ${old} does not exist at the target; its network cards are left disconnected.`)
    networks.set(old, found?.name ?? null)
    if (found !== undefined) refs.set(found.name, found.moref)
  }
  return { networks, refs }
}
