import { AgentError, type Clock, isAgentError, isThere, type MoRef, toAgentError } from '../core/index.ts'
import { type Releaser, type Releasers, type VmLocks, vmLockReleaser } from '../journal/index.ts'
import { presentReleasers } from '../mount/index.ts'
import { type RemovalDeps, removeDeleted, removeLocks, removeNewRepository, removePartials, settleNewKey } from '../provider/index.ts'
import type { GuestScripts } from '../quiesce/index.ts'
import type { StagePrograms } from '../stages/index.ts'
import { createSnapshots, presentVm, type SnapshotChanges, type Snapshots } from '../snapshot/index.ts'
import { detachAttached, findAttached, type ProxyGuest } from '../transport/index.ts'
import { deleteDatastoreFile, endExport, listDatastores, parseDatastorePath, type Vsphere, vmMoRef } from '../vsphere/index.ts'
import { destroyRestored } from './destroy-restored.ts'
import { isDown } from './guest-scripts.ts'
import { findExport } from './find-export.ts'
import { findRestored } from './find-restored.ts'
import { findMountDirectory, removeMountDirectory } from './mount-directory.ts'
import type { ReleasePatience } from './release-patience.ts'
import { settleReplacement } from './replaced-vm.ts'
import { partialDirectory, removePartial } from './restore-directory.ts'
import { restoreDirectory } from './vm-import.ts'

/** vSphere as the releasers reach it: connected on first use, because most releases never need it. */
export type ReleaseDeps = {
  readonly vsphere: () => Promise<Vsphere>
  readonly locks: VmLocks
  /** Who changes snapshots there; the API when absent. */
  readonly changes?: ((vsphere: Vsphere) => SnapshotChanges) | undefined
  readonly patience: ReleasePatience
  readonly clock: Clock
  /** Absent where no guest script ever runs. */
  readonly scripts?: GuestScripts | undefined
  /** Absent where no program of a job is ever to come. */
  readonly stages?: StagePrograms | undefined
  /** How a destination is reached to remove something there: a product's program, the login of a server; absent where all are local. */
  readonly destinations?: ((url: string) => Promise<RemovalDeps>) | undefined
  /** This machine, as the guest of a proxy VM. */
  readonly guest: ProxyGuest
}

/**
 * The one registry of how each kind of claim is found and undone. Success, failure, cancel and recovery all come here; there is no other
 * clean-up. Calls get no job's signal, what is held is released whatever was canceled; the signal they get is the release deadline.
 */
export function createReleasers(deps: ReleaseDeps): Releasers {
  const { patience } = deps
  const scripts = (): GuestScripts => {
    if (deps.scripts === undefined) throw new AgentError('INTERNAL', 'Nobody here can run guest scripts.')
    return deps.scripts
  }
  const stages = (): StagePrograms => {
    if (deps.stages === undefined) throw new AgentError('INTERNAL', 'Nobody here can run programs of jobs.')
    return deps.stages
  }
  /** The vCenter a claim is on. Another one would say "no such VM", which must not be taken for "released". */
  const on = async (vcenterUuid: string): Promise<Vsphere> => {
    const vsphere = await deps.vsphere()
    if (vsphere.about.instanceUuid === vcenterUuid) return vsphere
    throw new AgentError('CONFIG', `What is to be released is on the vCenter ${vcenterUuid}, not on ${vsphere.host}.`, {
      subject: vcenterUuid,
      next: 'Run "vcb recover" with the connection of that vCenter.',
    })
  }
  const snapshotsOn = async (vcenterUuid: string): Promise<Snapshots> => {
    const vsphere = await on(vcenterUuid)
    return createSnapshots(vsphere, deps.changes?.(vsphere))
  }
  /** Both kinds of snapshot are one thing to vSphere. */
  const snapshot: Releaser<'snapshot'> & Releaser<'changeTrackingSnapshot'> = {
    find: ({ id, args, intendedAt }, options) =>
      patience.run(id, args.vm.name, options, async () =>
        (await snapshotsOn(args.vm.vcenterUuid)).find(args.vm, id, { ...options, before: args.before, intendedAt }),
      ),
    release: (ref, { id, args }, options) =>
      patience.run(id, ref.vm.name, options, async () => {
        await (await snapshotsOn(ref.vm.vcenterUuid)).remove(ref, { ...options, before: args.before })
      }),
  }
  const presented = presentReleasers(deps.clock)
  return {
    vmLock: vmLockReleaser(deps.locks),
    snapshot,
    guestScript: {
      find: ({ id, args }, options) =>
        patience.run(id, args.vm.name, options, async () => {
          const vsphere = await on(args.vm.vcenterUuid)
          if (await isDown(vsphere, vmMoRef(args.vm), options)) return undefined
          return (await scripts().started(id, args, vsphere, options)) ? { argument: 'freezeFail' as const } : undefined
        }),
      release: ({ argument }, { id, args }, options) =>
        patience.run(id, args.vm.name, options, async () => {
          const vsphere = await on(args.vm.vcenterUuid)
          if (!(await isDown(vsphere, vmMoRef(args.vm), options))) await scripts().postThaw(id, args, argument, vsphere, options)
        }),
    },
    stagePrograms: {
      find: ({ id, args }, options) => stages().found(id, args, options),
      release: (ref, { id, args }, options) => stages().come(id, args, ref, options),
    },
    exportLease: {
      // Refused to this process: there is none. One whose answer was lost ends by itself, and the snapshot's removal is tried until then.
      find: ({ id, args, intendedAt }, options) =>
        patience.run(id, args.vm.name, options, async () => {
          if (intendedAt === undefined) return undefined
          const lease = await findExport(await on(args.vm.vcenterUuid), args.snapshot, { ...options, subject: args.vm.name })
          return lease === undefined ? undefined : { lease }
        }),
      release: (ref, { id, args }, options) =>
        patience.run(id, args.vm.name, options, async () => {
          const lease: MoRef = { type: 'HttpNfcLease', value: ref.lease }
          await endExport(await on(args.vm.vcenterUuid), lease, { ...options, subject: args.vm.name })
        }),
    },
    changeTrackingSnapshot: snapshot,
    attachedDisk: {
      find: ({ id, args }, options) =>
        patience.run(id, args.proxy.name, options, async () => {
          const vsphere = await on(args.proxy.vcenterUuid)
          const proxy = await presentVm(vsphere, args.proxy, args.proxyPathName, options)
          return proxy === undefined ? undefined : findAttached(vsphere, proxy.moref, id, args, options)
        }),
      release: (_ref, { id, args }, options) =>
        patience.run(id, args.proxy.name, options, async () => {
          const vsphere = await on(args.proxy.vcenterUuid)
          const proxy = await presentVm(vsphere, args.proxy, args.proxyPathName, options)
          if (proxy !== undefined) await detachAttached(vsphere, deps.guest, proxy.moref, id, args, options)
        }),
    },
    repositoryWrite: {
      find: async (claim) => claim.args,
      release: async (ref) => {
        await removePartials(ref, await deps.destinations?.(ref.url))
      },
    },
    newRepository: {
      find: async (claim) => claim.args,
      release: async (ref) => removeNewRepository(ref, (await deps.destinations?.(ref.url))?.place),
    },
    repositoryKey: {
      find: async (claim) => claim.args,
      release: async (ref) => settleNewKey(ref, (await deps.destinations?.(ref.url))?.place),
    },
    repositoryLock: {
      find: async (claim) => claim.args,
      release: async (ref) => removeLocks(ref, (await deps.destinations?.(ref.url))?.place),
    },
    pointRemoval: {
      find: async (claim) => claim.args,
      release: (ref) => removeDeleted(ref.url, ref.point),
    },
    partialFile: {
      find: async (claim) => {
        const path = partialDirectory(claim.args.path, claim.id)
        return (await isThere(path)) ? { path } : undefined
      },
      release: (ref) => removePartial(ref.path),
    },
    fuseMount: presented.fuseMount,
    loopDevice: presented.loopDevice,
    volumeMount: presented.volumeMount,
    mountDirectory: {
      find: ({ id, args }) => findMountDirectory(args, id),
      release: (ref, { id }) => removeMountDirectory(ref, id),
    },
    datastoreDirectory: {
      find: ({ id, args }, options) =>
        patience.run(id, args.path, options, async () => {
          const vsphere = await on(args.vcenterUuid)
          const { datastore, path } = parseDatastorePath(args.path)
          const known = (await listDatastores(vsphere, undefined, options)).find((each) => each.name === datastore)
          return known === undefined ? undefined : { datacenter: args.datacenter, path: restoreDirectory(known, path, id) }
        }),
      release: (ref, { id, args }, options) =>
        patience.run(id, ref.path, options, async () => {
          const datacenter: MoRef = { type: 'Datacenter', value: ref.datacenter }
          await goneIsFine(deleteDatastoreFile(await on(args.vcenterUuid), datacenter, ref.path, options))
        }),
    },
    replacedVm: {
      find: async ({ args }) => ({ moref: args.moref }),
      release: (_ref, { id, job, args }, options) =>
        patience.run(id, args.name, options, async () => settleReplacement(await on(args.vcenterUuid), job, args, options)),
    },
    registeredVm: {
      find: ({ id, args, intendedAt }, options) =>
        patience.run(id, args.name, options, async () => {
          const vsphere = await on(args.vcenterUuid)
          const moref = await findRestored(vsphere, id, intendedAt, { ...options, subject: args.name })
          return moref === undefined ? undefined : { moref }
        }),
      release: (ref, { id, args }, options) =>
        patience.run(id, args.name, options, async () => {
          const vm: MoRef = { type: 'VirtualMachine', value: ref.moref }
          await destroyRestored(await on(args.vcenterUuid), vm, { ...options, subject: args.name })
        }),
    },
  }
}

async function goneIsFine(work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isAgentError(toAgentError(error), 'NOT_FOUND')) throw error
  }
}
