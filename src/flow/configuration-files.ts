import { type Abortable, toAgentError, type VmConfig } from '../core/index.ts'
import {
  type DatastorePath,
  datacenterOf,
  formatDatastorePath,
  openDatastoreFiles,
  parseDatastorePath,
  type Vsphere,
  vmMoRef,
} from '../vsphere/index.ts'

/** A VMX is a few KiB, an NVRAM at most some hundred; more is not one of these. Bytes. */
const LARGEST = 8 * 1024 * 1024

export type ConfigurationFile = { readonly name: string; readonly body: Uint8Array }

/**
 * The VM's `.vmx` and `.nvram` from its datastore. One that cannot be read becomes a warning, not a failure: the manifest holds the
 * configuration too, and a restore makes its VMX from that.
 */
export async function readConfigurationFiles(
  vsphere: Vsphere,
  config: VmConfig,
  warnings: string[],
  options?: Abortable,
): Promise<readonly ConfigurationFile[]> {
  const files = openDatastoreFiles(vsphere, await datacenterOf(vsphere, vmMoRef(config.vm), options))
  const vmx = parseDatastorePath(config.vmPathName)
  const read: ConfigurationFile[] = []
  for (const path of [vmx, nvramPath(vmx, config)]) {
    const text = formatDatastorePath(path)
    try {
      read.push({ name: path.path.slice(path.path.lastIndexOf('/') + 1), body: await files.readSmall(text, LARGEST, options) })
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      // A VM that was never powered on has no NVRAM yet.
      if (shown.code !== 'NOT_FOUND' || path === vmx) warnings.push(`${text} was not saved: ${shown.message}`)
    }
  }
  return read
}

/** `nvram` of the extraConfig names it, beside the VMX; `<vmx name>.nvram` otherwise. */
function nvramPath(vmx: DatastorePath, config: VmConfig): DatastorePath {
  const directory = vmx.path.slice(0, vmx.path.lastIndexOf('/') + 1)
  const named = config.extraConfig['nvram']
  const name = named !== undefined && !named.includes('/') ? named : `${vmx.path.slice(directory.length).replace(/\.vmx$/, '')}.nvram`
  return { datastore: vmx.datastore, path: directory + name }
}
