import { type Abortable, type AttachedDisk, AgentError, type ClaimId, type DiskRef, type MoRef } from '../core/index.ts'
import { detachDisk, isFault, patiently, type VmHardware, vmHardware, type Vsphere, waitTasksOf } from '../vsphere/index.ts'
import { uuidDigits } from './disk-uuid.ts'
import type { GuestDisk, ProxyGuest } from './hotadd-guest.ts'
import { attachedKey } from './hotadd-mark.ts'
import type { ProxyVm } from './hotadd-proxy.ts'

/** Other tasks on the proxy VM are waited for so long. ms */
export const BUSY_MS = 5 * 60_000

/** The key of a claim whose disk is off already, but not its entry: no device has it. */
const NO_DISK = -1

/** Refusals that say that another change of the proxy VM came first: it is looked at anew then. */
export const cameFirst = (error: unknown): boolean => isFault(error, 'TaskInProgress', 'ConcurrentAccess')

/** The disk of a claim on the proxy VM as it is now, once no task that could still attach it runs. Undefined = it is not attached. */
export async function findAttached(
  vsphere: Vsphere,
  proxy: MoRef,
  claim: ClaimId,
  args: AttachedDisk,
  options?: Abortable,
): Promise<{ readonly key: number } | undefined> {
  const call = { signal: options?.signal, subject: args.proxy.name }
  await waitTasksOf(vsphere, proxy, call)
  const hardware = await vmHardware(vsphere, proxy, call)
  const disk = attachedDisk(hardware, args)
  if (disk !== undefined) return { key: disk.key }
  // The entry alone is ours to strike too.
  return hardware.extraConfig.has(attachedKey(args.entryOf ?? claim)) ? { key: NO_DISK } : undefined
}

/**
 * Detaches the disk of a claim from the proxy VM: first the guest lets it go, then it is taken off with its entry, in one change and without touching its
 * file. Idempotent; a disk that was there before, or that is another's, is left. CONFLICT when the proxy VM has a snapshot that holds the disk.
 */
export async function detachAttached(
  vsphere: Vsphere,
  guest: ProxyGuest,
  proxy: MoRef,
  claim: ClaimId,
  args: AttachedDisk,
  options?: Abortable,
): Promise<void> {
  const { clock, log } = vsphere
  const call = { signal: options?.signal, subject: args.proxy.name }
  const gone = (await guest.is(args.proxy.biosUuid)) ? await letGo(vsphere, guest, args, options) : undefined
  await guest.turn(
    () =>
      patiently({ clock, log, subject: args.proxy.name, forMs: BUSY_MS, signal: options?.signal, passes: cameFirst }, async () => {
        await waitTasksOf(vsphere, proxy, { ...call, forMs: BUSY_MS })
        const hardware = await vmHardware(vsphere, proxy, call)
        const disk = attachedDisk(hardware, args)
        if (disk !== undefined && disk.fileName !== args.fileName) {
          throw new AgentError(
            'CONFLICT',
            `${args.fileName} cannot be detached: a snapshot of ${hardware.name} has put ${disk.fileName} over it.`,
            {
              subject: args.fileName,
              next: `Remove that snapshot of ${hardware.name}, then run "vcb recover".`,
              retry: 'later',
            },
          )
        }
        const key = attachedKey(args.entryOf ?? claim)
        const keys = hardware.extraConfig.has(key) ? [key] : []
        await detachDisk(vsphere, proxy, { changeVersion: hardware.changeVersion, disk, keys }, call)
        const after = attachedDisk(await vmHardware(vsphere, proxy, call), args)
        if (after === undefined) return
        throw new AgentError(
          'UNAVAILABLE',
          `Detaching ${args.fileName} from ${hardware.name} reported success, but it is still attached.`,
          {
            subject: args.fileName,
            next: `Look at the events of ${hardware.name} in vCenter, then run "vcb recover".`,
            retry: 'later',
          },
        )
      }),
    options,
  )
  if (gone !== undefined && !(await guest.vanished(gone, options)))
    vsphere.log.warn('the guest still shows a disk that was detached', { disk: args.fileName, device: gone.name })
}

/** What an entry of ours says about the proxy VM as it is now, for a claim that takes it over. */
export function attachedOnProxy(
  { ref, vmPathName, hardware }: ProxyVm,
  entryOf: ClaimId,
  fileName: string,
): { readonly attached: AttachedDisk; readonly key: number } {
  const disk = hardware.disks.find((each) => each.fileName === fileName || each.chain.includes(fileName))
  const mode = disk === undefined || disk.diskMode === 'independent_nonpersistent' ? 'independent_nonpersistent' : 'persistent'
  return {
    attached: { proxy: ref, proxyPathName: vmPathName, fileName, uuid: disk?.uuid ?? '', mode, before: [], entryOf },
    key: disk?.key ?? NO_DISK,
  }
}

/**
 * By the file that was attached; one that is written to also below a redo log that a snapshot of the proxy VM put over it. What was there before is not
 * ours.
 */
export function attachedDisk({ disks }: VmHardware, { fileName, before, mode }: AttachedDisk): DiskRef | undefined {
  if (before.includes(fileName)) return undefined
  const exact = disks.find((disk) => disk.fileName === fileName)
  return exact ?? (mode === 'persistent' ? disks.find((disk) => disk.chain.includes(fileName)) : undefined)
}

/** Only what has the uuid, and is the only one that has it: another disk is never taken from the guest. */
async function letGo(vsphere: Vsphere, guest: ProxyGuest, args: AttachedDisk, options?: Abortable): Promise<GuestDisk | undefined> {
  const wanted = uuidDigits(args.uuid)
  const [found, ...more] = (await guest.disks()).filter((disk) => disk.uuid !== undefined && disk.uuid === wanted)
  if (found === undefined || more.length > 0) return undefined
  if (!(await guest.remove(found, options)))
    vsphere.log.warn('the guest did not let a disk go; it is detached all the same', { disk: args.fileName, device: found.name })
  return found
}
