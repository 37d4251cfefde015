import { type DiskRef, type Manifest, safeFileName, type VmConfig } from '../core/index.ts'
import { Catalog } from '../vcb-files/index.ts'
import { PointNames, stemOf } from './point-names.ts'
import type { StoredManifest } from './manifest.ts'

export const CATALOG_FILE = 'catalog'

export const vcbNames = (config: VmConfig): PointNames => new PointNames(config, exportStem)

/** What tells a disk of an export from its others. */
export type ExportedDisk = Pick<DiskRef, 'key' | 'label' | 'fileName' | 'chain'>

/** The name of a disk in an export, as VCB's full VM export gave it: `scsi0-0-0-web01`, controller and unit before the base disk's own name. */
export function exportStem(disk: ExportedDisk): string {
  const [, controller = disk.label, unit = '0'] = /^(\D+\d+):(\d+)$/.exec(disk.label) ?? []
  return safeFileName(`${controller}-${unit}-0-${stemOf(disk)}`).replaceAll('%', '_')
}

/** Directory of an export when nobody names one. */
export const vcbDirectory = (config: VmConfig): string => safeFileName(config.vm.name)

export const vcbCatalog = (manifest: StoredManifest): string =>
  exportCatalog(manifest, (disk) => manifest.images.find(({ key }) => key === disk)?.descriptor)

/** The `catalog` that vcbRestore goes by: meant to be edited, so no digest is kept of it. `descriptorOf` a disk's key; a disk without one is left out. */
export function exportCatalog(
  { vm, config, time }: Pick<Manifest, 'vm' | 'config' | 'time'>,
  descriptorOf: (key: number) => string | undefined,
): string {
  return Catalog.of({
    name: oneLine(vm.name),
    biosUuid: vm.biosUuid,
    poweredOn: config.powerState === 'poweredOn',
    host: oneLine(config.host.name),
    resourcePool: undefined,
    folder: oneLine(vm.path.slice(0, vm.path.lastIndexOf('/'))),
    time: new Date(time),
    vmx: oneLine(config.vmPathName),
    disks: config.disks.flatMap((disk) => {
      const file = descriptorOf(disk.key)
      return file === undefined ? [] : [{ label: disk.label, file, path: oneLine(disk.chain.at(-1) ?? disk.fileName) }]
    }),
  }).format()
}

const oneLine = (text: string): string => text.replaceAll(/[\r\n]/g, ' ')
