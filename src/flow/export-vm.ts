import { join } from 'node:path'
import { type Abortable, AgentError, syncDirectory, writeFileWhole } from '../core/index.ts'
import type { ExportFormat } from '../disk/index.ts'
import type { Claims, Held } from '../journal/index.ts'
import { exportCatalog, exportImage, exportNames } from '../provider/index.ts'
import { exportedConfiguration } from './exported-configuration.ts'
import { recordShown } from './mount-directory.ts'
import type { MountSource } from './mount-source.ts'

/** Disk label → descriptor, and every file that was written. */
export type ExportedVm = {
  readonly descriptors: ReadonlyMap<string, string>
  readonly files: readonly { readonly name: string; readonly size: number }[]
}

/**
 * Writes a VM into a lease's directory as VCB's full VM export did, byte for byte the files of a `vcb:` restore point: disks named by controller and unit, the VMX with those names, NVRAM,
 * and a `catalog` for vcbRestore. The names are recorded before the files are made. Errors: USAGE (a disk without a VM), CAPACITY, CONFIG, CANCELED, INTEGRITY, those of the source.
 */
export async function exportVm(
  claims: Claims,
  shown: Held<'mountDirectory'>,
  source: MountSource,
  format: ExportFormat,
  warnings: string[],
  options: Abortable,
): Promise<{ readonly exported: ExportedVm; readonly shown: Held<'mountDirectory'> }> {
  const { path } = shown.ref
  const { config, time, vm } = source
  if (config === undefined) {
    throw new AgentError('USAGE', `${vm.name} is a disk without a VM, so there is no VM to export.`, {
      subject: vm.name,
      next: 'Mount it with --type disk or file.',
    })
  }
  const names = exportNames(config)
  const stems = new Map(source.disks.map((disk) => [disk.key, names.disk(disk)]))
  const saved = (await source.files(warnings, options)).filter(({ name }) => /\.(?:vmx|nvram)$/i.test(name))
  const small = exportedConfiguration(config, saved, [...stems.keys()], warnings)
  const recorded = await recordShown(claims, shown, { files: [...small.map(({ name }) => name), 'catalog'], disks: [...stems.values()] })
  const files: { name: string; size: number }[] = []
  for (const disk of source.disks) {
    const written = await exportImage({ config, time }, disk, disk.source, { directory: path, stem: names.disk(disk), format }, options)
    files.push(...written.files)
    await source.finish(disk.key, options)
  }
  const descriptorOf = (key: number): string | undefined => (stems.has(key) ? `${stems.get(key)}.vmdk` : undefined)
  for (const { name, body } of [...small, { name: 'catalog', body: Buffer.from(exportCatalog({ vm, config, time }, descriptorOf)) }]) {
    await writeFileWhole(join(path, name), body)
    files.push({ name, size: body.length })
  }
  await syncDirectory(path)
  return {
    exported: { descriptors: new Map(source.disks.map((disk) => [disk.label, `${names.disk(disk)}.vmdk`])), files },
    shown: recorded,
  }
}
