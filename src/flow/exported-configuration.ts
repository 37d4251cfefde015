import { safeFileName, type VmConfig } from '../core/index.ts'
import { exportNames } from '../provider/index.ts'
import { restoredVmx, Vmx } from '../vmx/index.ts'
import type { ConfigurationFile } from './configuration-files.ts'

/**
 * The VMX and the NVRAM of an exported VM, whoever exports it: the VM's own VMX with the names of the files beside it, made from the configuration where it could not be read, and the
 * NVRAM as it is. Other files of `saved` stay as they are. `disks` are the keys of those that are exported. What the VMX had to leave out is a warning. The same for what was exported
 * before: nothing changes any more.
 */
export function exportedConfiguration(
  config: VmConfig,
  saved: readonly ConfigurationFile[],
  disks: readonly number[],
  warnings: string[],
): readonly ConfigurationFile[] {
  const named = saved.map(({ name, body }) => ({ name: safeFileName(name), body }))
  const ending = (end: string): ConfigurationFile | undefined => named.find(({ name }) => name.toLowerCase().endsWith(end))
  const own = ending('.vmx')
  const names = exportNames(config)
  const { vmx, dropped } = restoredVmx(own === undefined ? undefined : Vmx.parse(own.body, own.name), config, {
    name: config.vm.name,
    disks: new Map(config.disks.filter(({ key }) => disks.includes(key)).map((disk) => [disk.label, `${names.disk(disk)}.vmdk`])),
    nvram: ending('.nvram')?.name,
    keepIdentity: true,
  })
  warnings.push(...dropped.map((device) => `The exported VMX leaves out ${device}.`))
  return [...named.filter((file) => file !== own), { name: own?.name ?? `${names.directory}.vmx`, body: Buffer.from(vmx.format()) }]
}
