import { join } from 'node:path'
import { type Abortable, safeFileName, syncDirectory, writeFileWhole } from '../core/index.ts'
import { exportDisk, type ExportFormat } from '../disk/index.ts'
import type { Claims, Held } from '../journal/index.ts'
import { exportCatalog, exportStem } from '../provider/index.ts'
import { restoredVmx, Vmx } from '../vmx/index.ts'
import { recordShown } from './mount-directory.ts'
import type { MountSource } from './mount-source.ts'

/** Disk label → descriptor, and every file that was written. */
export type ExportedVm = {
  readonly descriptors: ReadonlyMap<string, string>
  readonly files: readonly { readonly name: string; readonly size: number }[]
}

/**
 * Writes a VM into a lease's directory as VCB's full VM export did: disks named by controller and unit, the VMX with those names, NVRAM, and a `catalog` for
 * vcbRestore. The names are recorded before the files are made. Errors: CAPACITY, CONFIG, CANCELED, INTEGRITY, those of the source.
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
  const base = safeFileName(source.vm.name)
  const names = new Map(source.disks.map((disk) => [disk.label, exportStem(disk)]))
  const saved = await source.files(warnings, options)
  const nvram = saved.find(({ name }) => name.toLowerCase().endsWith('.nvram'))
  const own = saved.find(({ name }) => name.toLowerCase().endsWith('.vmx'))
  const recorded = await recordShown(claims, shown, {
    files: [`${base}.vmx`, 'catalog', ...(nvram === undefined ? [] : [`${base}.nvram`])],
    disks: [...names.values()],
  })
  const files: { name: string; size: number }[] = []
  for (const disk of source.disks) {
    const { uuid, thin, label } = disk
    files.push(...(await exportDisk(disk.source, path, names.get(label) ?? label, format, { signal: options.signal, uuid, thin })).files)
    await source.finish(disk.key, options)
  }
  const write = async (name: string, body: Uint8Array | string): Promise<void> => {
    await writeFileWhole(join(path, name), body)
    files.push({ name, size: typeof body === 'string' ? Buffer.byteLength(body) : body.length })
  }
  if (nvram !== undefined) await write(`${base}.nvram`, nvram.body)
  const descriptors = new Map([...names].map(([label, name]) => [label, `${name}.vmdk`]))
  const { vmx, dropped } = restoredVmx(own === undefined ? undefined : Vmx.parse(own.body, own.name), source.config, {
    name: source.vm.name,
    disks: descriptors,
    nvram: nvram === undefined ? undefined : `${base}.nvram`,
    keepIdentity: true,
  })
  warnings.push(...dropped.map((device) => `The exported VMX leaves out ${device}.`))
  await write(`${base}.vmx`, vmx.format())
  const labels = new Map(source.disks.map(({ key, label }) => [key, label]))
  await write(
    'catalog',
    exportCatalog(source, (key) => descriptors.get(labels.get(key) ?? '')),
  )
  await syncDirectory(path)
  return { exported: { descriptors, files }, shown: recorded }
}
