import { type Abortable, type DiskRef, toAgentError, type VmConfig, type VmRef } from '../core/index.ts'
import { changedAreas } from '../snapshot/index.ts'
import { queryChangedDiskAreas, type VmFile, vmFiles, vmMoRef, type Vsphere } from '../vsphere/index.ts'

/** How much of a disk would be read at most, bytes, and by what that is known. */
export type Estimate = { readonly bytes: number; readonly by: 'in changed areas' | 'allocated' | 'capacity' }

export type EstimateQuestion = {
  readonly config: VmConfig
  readonly disk: DiskRef
  /** The VM's files; none when they cannot be listed. */
  readonly files: readonly VmFile[]
  /** What an incremental would build on. */
  readonly changeId: string | undefined
}

/** The VM's files with their sizes, or none where the server does not tell: an estimate is no reason to fail. */
export async function filesOf(vsphere: Vsphere, vm: VmRef, options?: Abortable): Promise<readonly VmFile[]> {
  try {
    return await vmFiles(vsphere, vmMoRef(vm), options)
  } catch (error) {
    const shown = toAgentError(error)
    if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    vsphere.log.debug('the files of a VM could not be listed', { vm: vm.name, error: shown.message })
    return []
  }
}

/**
 * Without a snapshot vSphere tells changed areas only of a VM that is off (QueryChangedDiskAreas, vim25 reference); of one that runs, an incremental is
 * known to read no more than what is allocated.
 */
export async function estimateTransfer(vsphere: Vsphere, question: EstimateQuestion, options?: Abortable): Promise<Estimate> {
  const { config, disk, files, changeId } = question
  if (changeId !== undefined && config.powerState === 'poweredOff') {
    const bytes = await changedBytes(vsphere, config, disk, changeId, options)
    if (bytes !== undefined) return { bytes, by: 'in changed areas' }
  }
  const sizes = disk.chain.flatMap((link) => files.filter(({ name }) => belongsTo(name, link)).map(({ size }) => size))
  const allocated = sizes.reduce((sum, size) => sum + size, 0)
  return sizes.length === 0
    ? { bytes: disk.capacityBytes, by: 'capacity' }
    : { bytes: Math.min(allocated, disk.capacityBytes), by: 'allocated' }
}

async function changedBytes(
  vsphere: Vsphere,
  { vm }: VmConfig,
  disk: DiskRef,
  changeId: string,
  options?: Abortable,
): Promise<number | undefined> {
  const subject = `${vm.name} ${disk.label}`
  const query = (startOffset: number) =>
    queryChangedDiskAreas(vsphere, vmMoRef(vm), { deviceKey: disk.key, startOffset, changeId }, { ...options, subject })
  try {
    let bytes = 0
    for await (const { length } of changedAreas(disk, query, options)) bytes += length
    return bytes
  } catch (error) {
    const shown = toAgentError(error)
    if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    return undefined
  }
}

/** Whether a file is an extent of the link with this descriptor: `web.vmdk` has `web-flat.vmdk`; a descriptor itself holds no data. */
function belongsTo(name: string, link: string): boolean {
  const stem = link.replace(/\.vmdk$/, '')
  return name.startsWith(`${stem}-`) && /^-(flat|delta|sesparse|rdm|rdmp|[fs]\d{3})\.vmdk$/.test(name.slice(stem.length))
}
