import { access, constants } from 'node:fs/promises'
import { type DatastoreRef, fromErrno, toAgentError } from '../core/index.ts'
import { lunHere, type MountedDatastore } from '../transport/index.ts'
import type { Finding } from './doctor.ts'

/** What doctor says of one datastore's directory for `san`: how it can be used, or what keeps it from being used. */
export type SanLook = {
  readonly usable?: string | undefined
  readonly problem?: Omit<Finding, 'check'> | undefined
  readonly hint?: string | undefined
}

/**
 * Whether a datastore is mounted here in a way that `san` can use. That it really is the datastore is proven per disk at each backup. A VMFS volume that is mounted
 * writable is a danger to it: hosts write to it, too.
 */
export async function lookAtMount(datastore: DatastoreRef, mounted: MountedDatastore | undefined): Promise<SanLook> {
  if (mounted === undefined) return { hint: await unmounted(datastore) }
  if (mounted.refusal !== undefined)
    return {
      problem: { result: 'failed', detail: `${mounted.refusal}.`, next: 'Mount the datastore there, all of it, or correct the map.' },
    }
  const { directory } = mounted
  try {
    await access(directory, constants.R_OK | constants.X_OK)
  } catch (error) {
    const detail = (fromErrno(error, directory) ?? toAgentError(error)).message
    return { problem: { result: 'failed', detail, next: 'Mount the datastore there, readable for the user that runs vcb.' } }
  }
  const usable = mounted.by === 'configured' ? `san (${directory})` : `san (${mounted.what})`
  if (datastore.vmfs === undefined || mounted.readOnly || mounted.by !== 'vmfs') return { usable }
  return {
    usable,
    problem: {
      result: 'warning',
      detail: `${usable}, but the volume is mounted writable while hosts write to it`,
      next: 'Mount it read-only: vmfs6-fuse -o ro.',
    },
  }
}

/** What could be done where a datastore is not mounted; undefined when nothing of it is seen here. */
async function unmounted({ vmfs }: DatastoreRef): Promise<string | undefined> {
  if (vmfs === undefined || vmfs.extents.length === 0) return undefined
  const devices = await Promise.all(vmfs.extents.map((name) => lunHere(name)))
  if (devices.some((device) => device === undefined)) return undefined
  return `its ${devices.length === 1 ? 'LUN is' : `${devices.length} LUNs are`} attached here: vmfs6-fuse -o ro ${devices.join(' ')} DIR would make it readable by san`
}
