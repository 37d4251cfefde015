import {
  AgentError,
  anySignal,
  type BlockSource,
  type DiskFacts,
  type Log,
  type Manifest,
  type Marks,
  type MoRef,
  type NotProtected,
  parseMark,
  toAgentError,
  type TransportName,
} from '../core/index.ts'
import type { Claims } from '../journal/index.ts'
import { noticing } from '../disk/index.ts'
import type { BackupReader, PointStore } from '../provider/index.ts'
import type { Refusal } from '../transport/index.ts'
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
import type { DiskWriters } from './import-by-disks.ts'
import { importByWays } from './import-by-ways.ts'
import { recordLocks } from './record-locks.ts'
import type { RestoreOptions } from './restore-directory.ts'
import { chooseDisks } from './restored-disks.ts'
import type { Imported, VmImport } from './vm-import.ts'

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
  /** Ways in the order they are tried: `lease` imports the whole VM, `https` uploads its files, the others write its disks one by one. */
  readonly transports: readonly TransportName[]
  /** Keep uuids and MAC addresses; for a VM that takes the place of the old one. */
  readonly keepIdentity: boolean
  readonly disks: readonly string[]
}

export type VmRestoreResult = {
  readonly vm: { readonly name: string; readonly moref: string }
  readonly datastore: string
  readonly host: string | undefined
  readonly disks: readonly RestoredDisk[]
  /** Devices that could not be made again. */
  readonly dropped: readonly string[]
  readonly warnings: readonly string[]
  readonly notProtected: readonly NotProtected[]
  readonly replaced: boolean
  readonly poweredOn: boolean
}

export type RestoredDisk = {
  readonly label: string
  readonly capacityBytes: number
  readonly thin: boolean
  /** How it was brought back. */
  readonly transport: TransportName
  readonly transportReason: string
  /** Every way and transport that was refused or failed before. */
  readonly refused: readonly Refusal[]
  /** How often the transport broke in mid-write and was opened again; absent = never. */
  readonly resumed?: number | undefined
  /** Bytes sent, where they are counted. */
  readonly writtenBytes?: number | undefined
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
  asked: RestoreOptions & { readonly log: Log; readonly marks: Marks; readonly writers: DiskWriters },
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
    refused: [],
    ...readingOf(reader, options),
  }
  const imported = await importByWays(work, request.transports, options.writers, claims, options)

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
    disks: disks.map((disk) => restoredDisk(disk, imported)),
    dropped,
    warnings,
    notProtected: manifest.notProtected,
    replaced: existing !== undefined,
    poweredOn,
  }
}

/** The point's disks; an error of the repository is kept apart from those of the way they are brought back. */
function readingOf(reader: BackupReader, options: RestoreOptions): Pick<VmImport, 'readDisk' | 'readFailure'> {
  let failure: unknown
  const onFailure = (error: unknown): void => {
    failure ??= error
  }
  const readDisk = async (disk: DiskFacts): Promise<BlockSource> => {
    try {
      return noticing(await reader.disk(disk.key, options), onFailure)
    } catch (error) {
      onFailure(error)
      throw error
    }
  }
  return { readDisk, readFailure: () => failure }
}

function restoredDisk({ label, capacityBytes, thin }: DiskFacts, imported: Imported): RestoredDisk {
  const by = imported.disks.get(label)
  if (by === undefined) throw new AgentError('INTERNAL', `The disk ${label} was not restored.`)
  const { transport, reason, refused, resumed, writtenBytes } = by
  const disk = { label, capacityBytes, thin: imported.thin && thin, transport, transportReason: reason, refused, writtenBytes }
  return resumed === 0 ? disk : { ...disk, resumed }
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
