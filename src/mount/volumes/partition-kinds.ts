import type { VolumeContent } from './volume.ts'

/**
 * Partitions whose type alone says what they are, whatever their bytes look like (docs/formats/partition-tables.md). Everything else is recognised by its
 * content, for installers set types carelessly. GPT types in upper case, MBR types in two digits.
 */
const NOTHING: Readonly<Record<string, string>> = {
  '21686148-6449-6E6F-744E-656564454649': 'BIOS boot',
  'E3C9E316-0B5C-4DB8-817D-F92DF00215AE': 'reserved',
  '9E1A2D38-C612-4316-AA26-8B49521E5A8B': 'PReP boot',
  '41': 'PReP boot',
}

const DYNAMIC: VolumeContent = {
  kind: 'refused',
  what: 'dynamic disk',
  reason:
    'It belongs to a Windows dynamic disk (LDM), whose volumes are not put together here; mount the image file with ldmtool, or restore the disk.',
}
const SPACES: VolumeContent = {
  kind: 'refused',
  what: 'Storage Spaces',
  reason:
    'It belongs to a pool of Windows Storage Spaces, which only Windows reads; restore the disks and attach them to a Windows machine.',
}
const VMFS: VolumeContent = {
  kind: 'refused',
  what: 'VMFS',
  reason: 'It holds a VMFS datastore; restore the disk and attach it to an ESXi host.',
}

const REFUSED: Readonly<Record<string, VolumeContent>> = {
  '5808C8AA-7E8F-42E0-85D2-E1E90434CFB3': { kind: 'none', what: 'dynamic disk database' },
  'AF9B60A0-1431-4F62-BC68-3311714A69AD': DYNAMIC,
  '42': DYNAMIC,
  'E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D': SPACES,
  e7: SPACES,
  'AA31E02A-400F-11DB-9590-000C2911D1B8': VMFS,
  fb: VMFS,
}

/** Called once for each partition; undefined: look at its content. */
export function kindOfType(type: string): VolumeContent | undefined {
  const nothing = NOTHING[type]
  return nothing === undefined ? REFUSED[type] : { kind: 'none', what: nothing }
}
