import { hash } from 'node:crypto'
import { type DiskRef, SECTOR, type VmConfig } from '../core/index.ts'
import { type DiskLook, formatDescriptor, newDescriptor } from '../disk/index.ts'

/** What the VM's configuration says about a disk's looks, in a descriptor's own words. */
export function diskLook(
  config: VmConfig,
  disk: Pick<DiskRef, 'key' | 'label' | 'uuid' | 'thin'>,
  time: string,
): DiskLook & { readonly cid: string } {
  const hardwareVersion = Number(/^vmx-(\d+)$/u.exec(config.hardwareVersion)?.[1])
  const hex = disk.uuid?.replaceAll(/[^0-9a-f]/giu, '').toLowerCase()
  const pairs = hex?.match(/../gu) ?? []
  return {
    adapterType: disk.label.startsWith('ide') ? 'ide' : 'lsilogic',
    hardwareVersion: Number.isInteger(hardwareVersion) ? hardwareVersion : 14,
    uuid: pairs.length === 16 ? `${pairs.slice(0, 8).join(' ')}-${pairs.slice(8).join(' ')}` : undefined,
    thin: disk.thin,
    // Any value but the two that mean "none"; the same for the same point, so that a repeated write gives the same bytes.
    cid: `0${hash('sha256', `${time}/${disk.key}`).slice(0, 7)}`,
  }
}

/** The descriptor of a flat image in the given files, in order: `monolithicFlat`, or `twoGbMaxExtentFlat` when there are several. */
export function flatDescriptor(
  name: string,
  look: DiskLook,
  files: readonly { readonly path: string; readonly size: number }[],
): Uint8Array {
  const size = files.reduce((sum, file) => sum + file.size, 0)
  const extents = files.map((file) => ({ access: 'RW', sectors: file.size / SECTOR, type: 'FLAT', file: file.path, offset: 0 }) as const)
  return formatDescriptor(newDescriptor(name, size, files.length === 1 ? 'monolithicFlat' : 'twoGbMaxExtentFlat', extents, look))
}
