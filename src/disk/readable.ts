import { AgentError } from '../core/index.ts'
import type { Descriptor, DescriptorExtent, ExtentType } from './descriptor.ts'

const RAW: readonly ExtentType[] = ['FLAT', 'VMFS', 'ZERO']
const HOSTED: readonly ExtentType[] = ['SPARSE', 'ZERO']

/** Create types that can be read, and the extents each may have. */
const READABLE: ReadonlyMap<string, readonly ExtentType[]> = new Map(
  Object.entries({
    monolithicsparse: HOSTED,
    twogbmaxextentsparse: HOSTED,
    '2gbmaxextentsparse': HOSTED,
    streamoptimized: HOSTED,
    monolithicflat: RAW,
    twogbmaxextentflat: RAW,
    '2gbmaxextentflat': RAW,
    vmfs: RAW,
    vmfsthin: RAW,
    vmfspreallocated: RAW,
    vmfseagerzeroedthick: RAW,
    vmfssparse: ['VMFSSPARSE', 'ZERO'],
    sesparse: ['SESPARSE', 'ZERO'],
    custom: ['FLAT', 'SPARSE', 'ZERO'],
  } as const satisfies Record<string, readonly ExtentType[]>),
)

/** Create types that are known but hold no bytes to read in files, with the reason. */
const REFUSED: ReadonlyMap<string, string> = new Map(
  Object.entries({
    vsansparse: 'is a vSAN snapshot, which only the host can read',
    vmfsrawdevicemap: 'is a raw device mapping (virtual mode); its data is on the mapped LUN',
    vmfsrdm: 'is a raw device mapping (virtual mode); its data is on the mapped LUN',
    vmfspassthroughrawdevicemap: 'is a raw device mapping (physical mode), which no snapshot covers',
    vmfsrdmp: 'is a raw device mapping (physical mode), which no snapshot covers',
    vmfsraw: 'is a raw device',
    fulldevice: 'is a physical disk of the host',
    partitioneddevice: 'is a physical partition of the host',
  }),
)

/**
 * Decides from the descriptor alone whether the disk can be read, before any other file is opened.
 * Errors: INTEGRITY (contradicts itself, unknown), UNAVAILABLE without retry (known, but not readable as files).
 */
export function checkReadable(descriptor: Descriptor, name: string): void {
  const createType = descriptor.createType.toLowerCase()
  const reason = REFUSED.get(createType)
  if (reason !== undefined) throw unreadable(name, reason)
  const allowed = READABLE.get(createType)
  if (allowed === undefined) throw damaged(name, `has the unknown createType ${JSON.stringify(descriptor.createType.slice(0, 80))}`)
  if (descriptor.extents.length === 0) throw damaged(name, 'lists no extents')
  for (const extent of descriptor.extents) checkExtent(extent, allowed, descriptor, name)
}

function checkExtent(extent: DescriptorExtent, allowed: readonly ExtentType[], descriptor: Descriptor, name: string): void {
  const { type, file = '' } = extent
  if (type === 'VSANSPARSE') throw unreadable(name, 'is a vSAN snapshot, which only the host can read')
  if (type === 'VMFSRDM' || type === 'VMFSRDMP' || type === 'VMFSRAW') throw unreadable(name, 'maps a raw device, whose data is in no file')
  if (/^(vsan|vvol):\/\//iu.test(file)) throw unreadable(name, `lives on a ${file.slice(0, 4)} object, which only the host can read`)
  if (extent.access === 'NOACCESS') throw unreadable(name, 'has an extent that must not be accessed (NOACCESS)')
  if (!allowed.includes(type)) throw damaged(name, `has an extent of type ${type}, which a ${descriptor.createType} disk cannot have`)
  if (type !== 'FLAT' && (extent.offset ?? 0) !== 0) throw damaged(name, `gives an offset to an extent of type ${type}`)
}

function unreadable(name: string, reason: string): AgentError {
  return new AgentError('UNAVAILABLE', `The disk ${name} ${reason}.`, {
    subject: name,
    retry: 'never',
    next: 'Read it through the host (--transport nbdssl or lease), or exclude this disk.',
  })
}

function damaged(name: string, reason: string): AgentError {
  return new AgentError('INTEGRITY', `The descriptor ${name} ${reason}.`, {
    subject: name,
    next: 'Restore the descriptor, or read this disk through the host (--transport nbdssl or lease).',
  })
}
