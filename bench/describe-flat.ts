import { writeFileSync } from 'node:fs'
import { basename } from 'node:path'

/** Writes a descriptor over a flat file that is there already, or will be. The path of the descriptor. */
export function describeFlat(flat: string, bytes: number): string {
  const vmdk = flat.replace(/-flat\.vmdk$/, '.vmdk')
  const sectors = bytes / 512
  const text = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=fffffffe',
    'parentCID=ffffffff',
    'createType="vmfs"',
    `RW ${sectors} VMFS "${basename(flat)}"`,
    'ddb.adapterType = "lsilogic"',
    `ddb.geometry.cylinders = "${Math.min(65535, Math.floor(sectors / 255 / 63))}"`,
    'ddb.geometry.heads = "255"',
    'ddb.geometry.sectors = "63"',
    'ddb.virtualHWVersion = "13"',
    '',
  ]
  writeFileSync(vmdk, text.join('\n'))
  return vmdk
}
