import { hash } from 'node:crypto'
import { type DiskRef, SECTOR, type VmConfig } from '../core/index.ts'
import { type Descriptor, type DiskLook, formatDescriptor, NO_PARENT } from '../disk/index.ts'

/** What the VM's configuration says about a disk's looks, in a descriptor's own words. */
export function diskLook(config: VmConfig, disk: DiskRef, time: string): DiskLook & { readonly cid: string } {
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
  look: DiskLook & { readonly cid: string },
  files: readonly { readonly path: string; readonly size: number }[],
): Uint8Array {
  const sectors = files.reduce((sum, { size }) => sum + size, 0) / SECTOR
  const descriptor: Descriptor = {
    version: 1,
    encoding: 'UTF-8',
    cid: look.cid,
    parentCid: NO_PARENT,
    createType: files.length === 1 ? 'monolithicFlat' : 'twoGbMaxExtentFlat',
    isNativeSnapshot: false,
    extents: files.map(({ path, size }) => ({ access: 'RW', sectors: size / SECTOR, type: 'FLAT', file: path, offset: 0 })),
    others: new Map(),
    ddb: new Map(ddb(look, sectors)),
  }
  return formatDescriptor(descriptor)
}

function ddb(look: DiskLook, sectors: number): [string, string][] {
  // IDE disks keep the old 16 × 63 geometry; SCSI disks have 255 × 63 whatever their size.
  const [heads, cylinders] =
    look.adapterType === 'ide' ? [16, Math.min(16383, Math.floor(sectors / (16 * 63)))] : [255, Math.floor(sectors / (255 * 63))]
  const entries: [string, string | undefined][] = [
    ['ddb.virtualHWVersion', String(look.hardwareVersion ?? 14)],
    ['ddb.geometry.cylinders', String(Math.max(1, cylinders))],
    ['ddb.geometry.heads', String(heads)],
    ['ddb.geometry.sectors', '63'],
    ['ddb.adapterType', look.adapterType ?? 'lsilogic'],
    ['ddb.uuid', look.uuid],
  ]
  return entries.filter((entry): entry is [string, string] => entry[1] !== undefined)
}
