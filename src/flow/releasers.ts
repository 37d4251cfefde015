import { access } from 'node:fs/promises'
import {
  type Abortable,
  AgentError,
  type ClaimId,
  isAgentError,
  isMissing,
  type MoRef,
  type SnapshotRef,
  toAgentError,
  type VmRef,
} from '../core/index.ts'
import { type Releasers, type VmLocks, vmLockReleaser } from '../journal/index.ts'
import { removePartials } from '../provider/index.ts'
import { createSnapshots } from '../snapshot/index.ts'
import { deleteDatastoreFile, destroyVm, listDatastores, parseDatastorePath, retrieveAll, type Vsphere } from '../vsphere/index.ts'
import { partialDirectory, removePartial } from './restore-directory.ts'
import { isRestoreOf, restoreDirectory } from './vm-import.ts'

/** vSphere as the releasers reach it: connected on first use, because most releases never need it. */
export type ReleaseDeps = {
  readonly vsphere: () => Promise<Vsphere>
  readonly locks: VmLocks
}

/**
 * The one registry of how each kind of claim is found and undone. Success, failure, cancel and recovery all come here; there is no other
 * clean-up. Calls get no job's signal, what is held is released whatever was canceled; the signal they get is the release deadline.
 */
export function createReleasers(deps: ReleaseDeps): Releasers {
  /** The vCenter a claim is on. Another one would say "no such VM", which must not be taken for "released". */
  const on = async (vcenterUuid: string): Promise<Vsphere> => {
    const vsphere = await deps.vsphere()
    if (vsphere.about.instanceUuid === vcenterUuid) return vsphere
    throw new AgentError('CONFIG', `What is to be released is on the vCenter ${vcenterUuid}, not on ${vsphere.host}.`, {
      subject: vcenterUuid,
      next: 'Run "vcb recover" with the connection of that vCenter.',
    })
  }
  const findSnapshot = async (vm: VmRef, claim: ClaimId, options?: Abortable): Promise<SnapshotRef | undefined> =>
    createSnapshots(await on(vm.vcenterUuid)).find(vm, claim, options)
  const removeSnapshot = async (ref: SnapshotRef, options?: Abortable): Promise<void> => {
    await createSnapshots(await on(ref.vm.vcenterUuid)).remove(ref, options)
  }
  return {
    vmLock: vmLockReleaser(deps.locks),
    snapshot: {
      find: (claim, options) => findSnapshot(claim.args.vm, claim.id, options),
      release: (ref, _claim, options) => removeSnapshot(ref, options),
    },
    changeTrackingSnapshot: {
      find: (claim, options) => findSnapshot(claim.args.vm, claim.id, options),
      release: (ref, _claim, options) => removeSnapshot(ref, options),
    },
    repositoryWrite: {
      find: async (claim) => claim.args,
      release: async (ref) => {
        await removePartials(ref.url, ref.run)
      },
    },
    partialFile: {
      find: async (claim) => {
        const path = partialDirectory(claim.args.path, claim.id)
        return (await exists(path)) ? { path } : undefined
      },
      release: (ref) => removePartial(ref.path),
    },
    datastoreDirectory: {
      find: async (claim) => {
        const vsphere = await on(claim.args.vcenterUuid)
        const { datastore, path } = parseDatastorePath(claim.args.path)
        const known = (await listDatastores(vsphere)).find((each) => each.name === datastore)
        return known === undefined ? undefined : { datacenter: claim.args.datacenter, path: restoreDirectory(known, path, claim.id) }
      },
      release: async (ref, claim) => {
        const datacenter: MoRef = { type: 'Datacenter', value: ref.datacenter }
        await goneIsFine(deleteDatastoreFile(await on(claim.args.vcenterUuid), datacenter, ref.path))
      },
    },
    registeredVm: {
      find: async (claim) => {
        const moref = await findMarked(await on(claim.args.vcenterUuid), claim.id)
        return moref === undefined ? undefined : { moref }
      },
      release: async (ref, claim) => goneIsFine(destroyVm(await on(claim.args.vcenterUuid), { type: 'VirtualMachine', value: ref.moref })),
    },
  }
}

/** The VM that carries the mark of a restore in its annotation. */
async function findMarked(vsphere: Vsphere, claim: ClaimId): Promise<string | undefined> {
  for await (const { obj, props } of retrieveAll(vsphere, { type: 'VirtualMachine', paths: ['config.annotation'] })) {
    if (isRestoreOf(props.get('config.annotation')?.text ?? '', claim)) return obj.value
  }
  return undefined
}

async function goneIsFine(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isAgentError(toAgentError(error), 'NOT_FOUND')) throw error
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}
