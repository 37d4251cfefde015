import { AgentError, type MoRef } from '../core/index.ts'
import { type NfcLease, openImport } from './nfc-lease.ts'
import { decodeLocalizedFault } from './soap.ts'
import { data, type VimData } from './vim-data.ts'
import type { VimNode } from './vim-node.ts'
import type { VmTarget } from './vm-calls.ts'
import type { CallOptions, Vsphere } from './vsphere.ts'

/** A file the import expects. `deviceId` is the lease device's importKey; `create` = PUT, else POST. */
export type ImportItem = { readonly deviceId: string; readonly path: string; readonly create: boolean; readonly size: number | undefined }

export type ImportTarget = {
  readonly pool: MoRef
  readonly datastore: MoRef
  readonly host?: MoRef | undefined
  readonly name: string
  readonly networks: readonly { readonly name: string; readonly network: MoRef }[]
  readonly diskProvisioning?: 'thin' | 'thick' | 'eagerZeroedThick' | undefined
}

/** CreateImportSpec from an OVF descriptor; the answer's errors become one CONFIG error. Changes nothing. */
export async function createImportSpec(
  vsphere: Vsphere,
  ovf: string,
  target: ImportTarget,
  options?: CallOptions,
): Promise<{ readonly spec: VimNode; readonly items: readonly ImportItem[]; readonly warnings: readonly string[] }> {
  const cisp = data({
    locale: '',
    deploymentOption: '',
    entityName: target.name,
    hostSystem: target.host,
    networkMapping: target.networks.map(({ name, network }) => data({ name, network })),
    diskProvisioning: target.diskProvisioning,
  })
  const args = { ovfDescriptor: ovf, resourcePool: target.pool, datastore: target.datastore, cisp }
  const [answer] = await vsphere.call('CreateImportSpec', vsphere.service('ovfManager'), args, options)
  const errors = answer?.all('error').map(sentence) ?? ['the server gave no answer']
  const spec = answer?.get('importSpec')
  if (spec === undefined || errors.length > 0) {
    throw new AgentError(
      'CONFIG',
      `The OVF descriptor of ${target.name} is not accepted: ${errors.join('; ') || 'no import specification came back'}.`,
      {
        subject: target.name,
        next: 'Restore by upload to the datastore instead.',
      },
    )
  }
  const items = answer?.all('fileItem').map((item) => ({
    deviceId: item.string('deviceId') ?? '',
    path: item.string('path') ?? '',
    create: item.boolean('create') ?? false,
    size: item.number('size'),
  }))
  return { spec, items: items ?? [], warnings: answer?.all('warning').map(sentence) ?? [] }
}

function sentence(node: VimNode): string {
  const fault = decodeLocalizedFault(node)
  return fault.message === '' ? fault.faultName : fault.message
}

/** A lease over a VM that is being made. */
export type ImportLease = NfcLease & { readonly entity: MoRef }

/** ImportVApp: makes the VM and opens the lease to fill its disks. `lease.entity` is the VM; aborting the lease deletes it. CONFLICT, AUTH. */
export async function importVm(vsphere: Vsphere, target: VmTarget, spec: VimNode | VimData, options?: CallOptions): Promise<ImportLease> {
  const { pool, folder, host } = target
  const lease = await openImport(vsphere, await vsphere.call('ImportVApp', pool, { spec, folder, host }, options), options)
  if (namesItsVm(lease)) return lease
  await lease[Symbol.asyncDispose]()
  throw new AgentError('INTEGRITY', `${vsphere.host} imports a VM without naming it.`, { subject: options?.subject })
}

const namesItsVm = (lease: NfcLease): lease is ImportLease => lease.entity !== undefined
