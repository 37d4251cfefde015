import { type DiskRef, type Manifest, safeFileName, type VmConfig } from '../core/index.ts'
import { Catalog } from '../vcb-files/index.ts'
import { PointNames, stemOf } from './point-names.ts'
import type { StoredManifest } from './manifest.ts'

export const CATALOG_FILE = 'catalog'

/** Names of an export as VCB's full VM export gave them: `scsi0-0-0-web01`, controller and unit before the disk's own name. */
export const vcbNames = (config: VmConfig): PointNames => new PointNames(config, vcbStem)

function vcbStem(disk: DiskRef): string {
  const [, controller = disk.label, unit = '0'] = /^(\D+\d+):(\d+)$/.exec(disk.label) ?? []
  return safeFileName(`${controller}-${unit}-0-${stemOf(disk)}`).replaceAll('%', '_')
}

/** Directory of an export when nobody names one. */
export const vcbDirectory = (config: VmConfig): string => safeFileName(config.vm.name)

/** The `catalog` that vcbRestore goes by: meant to be edited, so no digest is kept of it. */
export function vcbCatalog(manifest: StoredManifest): string {
  const { vm, config } = manifest
  return Catalog.of({
    name: oneLine(vm.name),
    biosUuid: vm.biosUuid,
    poweredOn: config.powerState === 'poweredOn',
    host: hostOf(manifest),
    resourcePool: undefined,
    folder: oneLine(vm.path.slice(0, vm.path.lastIndexOf('/'))),
    time: new Date(manifest.time),
    vmx: oneLine(config.vmPathName),
    disks: config.disks.flatMap((disk) => {
      const file = manifest.images.find(({ key }) => key === disk.key)?.descriptor
      return file === undefined ? [] : [{ label: disk.label, file, path: oneLine(disk.chain.at(-1) ?? disk.fileName) }]
    }),
  }).format()
}

const hostOf = ({ config }: Manifest): string => oneLine(config.host.name)

const oneLine = (text: string): string => text.replaceAll(/[\r\n]/g, ' ')
