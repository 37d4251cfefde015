import { type Abortable, type DiskRef, toAgentError, type VmConfig } from '../core/index.ts'
import { datacenterOf, openDatastoreFiles, parseDisks, retrieveOne, type Vsphere, vmMoRef } from '../vsphere/index.ts'

/** Largest descriptor compared byte by byte. */
export const MAX_COMPARED_BYTES = 256 * 1024

/**
 * What vSphere itself shows of the files of one VM's datastores, to hold a mounted directory against. It reaches them through a host that has the datastore, and
 * names that by its datacenter, so that it cannot mean another datastore of the same name. `unknown`: it would not tell, and why.
 */
export interface DatastoreWitness {
  /** A small file whole. `gone`: there is none of this name. */
  bytes(path: string, options?: Abortable): Promise<Testimony<Uint8Array>>
  /** Bytes. */
  size(path: string, options?: Abortable): Promise<Testimony<number>>
  /** The file the VM writes this disk's changes to now, its datastore path. */
  present(disk: DiskRef, options?: Abortable): Promise<string | undefined>
}

export type Testimony<T> = { readonly is: T } | { readonly gone: true } | { readonly unknown: string }

export function datastoreWitness(vsphere: Vsphere, { vm }: VmConfig): DatastoreWitness {
  const files = async (options?: Abortable) => openDatastoreFiles(vsphere, await datacenterOf(vsphere, vmMoRef(vm), options))
  return Object.freeze({
    bytes: (path: string, options?: Abortable) => testify(async () => (await files(options)).readSmall(path, MAX_COMPARED_BYTES, options)),
    size: (path: string, options?: Abortable) => testify(async () => (await (await files(options)).stat(path, options)).size),
    present: async (disk: DiskRef, options?: Abortable) => {
      const { props } = await retrieveOne(vsphere, vmMoRef(vm), ['config.hardware.device'], { ...options, subject: vm.name })
      const now = parseDisks(props.get('config.hardware.device')?.items() ?? []).find(({ key }) => key === disk.key)
      return now?.fileName === '' ? undefined : now?.fileName
    },
  })
}

async function testify<T>(ask: () => Promise<T>): Promise<Testimony<T>> {
  try {
    return { is: await ask() }
  } catch (error) {
    const shown = toAgentError(error)
    if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    return shown.code === 'NOT_FOUND' ? { gone: true } : { unknown: shown.message }
  }
}
