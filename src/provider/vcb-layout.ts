import { type BlockSource, type DiskRef, type Manifest, safeFileName, type VmConfig } from '../core/index.ts'
import { exportDisk, type ExportFormat, type ExportOptions } from '../disk/index.ts'
import { Catalog } from '../vcb-files/index.ts'
import { diskLook } from './disk-descriptor.ts'
import { PointNames, stemOf } from './point-names.ts'
import type { StoredManifest } from './manifest.ts'

export const CATALOG_FILE = 'catalog'

/** File names of an export: of a `vcb:` restore point, and of what a lease exports. */
export const exportNames = (config: VmConfig): PointNames => new PointNames(config, exportStem)

/** Writes one disk of an export, of a lease or of a restore to a directory, the same bytes whoever does: everything in its descriptor comes from the VM's configuration and the moment it shows. Errors as `exportDisk`. */
export const exportImage = (
  { config, time }: { readonly config: VmConfig; readonly time: string },
  disk: Parameters<typeof diskLook>[1],
  source: BlockSource,
  { directory, stem, format }: { readonly directory: string; readonly stem: string; readonly format: ExportFormat },
  options: Pick<ExportOptions, 'signal' | 'onProgress'>,
): Promise<{ readonly files: readonly { readonly name: string; readonly size: number }[] }> =>
  exportDisk(source, directory, stem, format, { ...diskLook(config, disk, time), ...options })

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
