import { type Abortable, AgentError, type AttachedDisk, type ClaimId, type DiskRef, type JobId, type Marks } from '../core/index.ts'
import { attachDisk, patiently, type VmHardware, vmHardware, type Vsphere, waitTasksOf } from '../vsphere/index.ts'
import { uuidDigits } from './disk-uuid.ts'
import { type WantedDisk, waitForDisk } from './hotadd-appear.ts'
import type { GuestDisk, ProxyGuest } from './hotadd-guest.ts'
import { attachedEntry } from './hotadd-mark.ts'
import type { ProxyVm } from './hotadd-proxy.ts'
import { BUSY_MS, cameFirst } from './hotadd-release.ts'
import { freeSlot, type SlotWishes } from './hotadd-slot.ts'

export type AttachParts = { readonly vsphere: Vsphere; readonly guest: ProxyGuest; readonly marks: Marks }

/** Attached and seen: what the claim needs, and where it can be read. */
export type Attached = { readonly key: number; readonly device: GuestDisk }

/** Why no disk at all can be attached to this proxy VM now, as a clause; undefined when one can. `seen`: the disks its guest shows. */
export function attachProblem({ name, extraConfig, devices }: VmHardware, seen: readonly GuestDisk[]): string | undefined {
  if (extraConfig.get('disk.EnableUUID')?.toUpperCase() !== 'TRUE')
    return `the proxy VM ${name} has no disk.EnableUUID = TRUE, without which its guest cannot tell disks apart`
  return freeSlot(devices, wishes(seen)) === undefined ? `the proxy VM ${name} has no SCSI or NVMe slot free` : undefined
}

/**
 * An NVMe controller is of use when the guest's kernel shows the uuids of namespaces. One that shows none of a disk there is now (a controller before NVMe 1.3,
 * a kernel that does not believe its ids) would not of another.
 */
const wishes = (seen: readonly GuestDisk[]): SlotWishes => ({ nvme: !seen.some(({ bus, uuid }) => bus === 'nvme' && uuid === undefined) })

/** The same for one disk. */
export function attachRefusal(hardware: VmHardware, seen: readonly GuestDisk[], disk: DiskRef): string | undefined {
  if (hardware.disks.some((each) => each.fileName === disk.fileName)) return `${disk.fileName} is attached to ${hardware.name} already`
  return attachProblem(hardware, seen)
}

/**
 * Attaches a disk to the proxy VM and waits until its guest shows it; insists on one disk with this file and on its uuid and size. Throws with
 * whatever came about: the caller's claim is released then. Errors: CAPACITY (no slot), CONFLICT (file locked, attached already), INTEGRITY (another disk
 * came), UNAVAILABLE (none came).
 */
export async function attachAndFind(
  { vsphere, guest, marks }: AttachParts,
  proxy: ProxyVm,
  disk: DiskRef,
  args: AttachedDisk,
  { job, claim }: { readonly job: JobId; readonly claim: ClaimId },
  options?: Abortable,
): Promise<Attached> {
  const { clock, log } = vsphere
  const call = { signal: options?.signal, subject: proxy.ref.name }
  const before = await guest.disks()
  await guest.turn(
    () =>
      patiently({ clock, log, subject: proxy.ref.name, forMs: BUSY_MS, signal: options?.signal, passes: cameFirst }, async () => {
        await waitTasksOf(vsphere, proxy.moref, { ...call, forMs: BUSY_MS })
        const hardware = await vmHardware(vsphere, proxy.moref, call)
        const refusal = attachRefusal(hardware, before, disk)
        const slot = freeSlot(hardware.devices, wishes(before))
        if (refusal !== undefined || slot === undefined)
          throw new AgentError('CONFLICT', `${disk.fileName} cannot be attached: ${refusal}.`, { subject: disk.fileName, retry: 'later' })
        const entry = attachedEntry(marks, job, claim, disk.fileName)
        const { fileName, capacityBytes } = disk
        await attachDisk(
          vsphere,
          proxy.moref,
          { changeVersion: hardware.changeVersion, slot, fileName, mode: args.mode, capacityBytes, entry },
          call,
        )
      }),
    options,
  )
  const { key, wanted } = await readBack(vsphere, proxy, disk, call)
  return { key, device: await waitForDisk(guest, wanted, before, options) }
}

/** Where it really went, from the server and not from the plan. */
async function readBack(
  vsphere: Vsphere,
  proxy: ProxyVm,
  disk: DiskRef,
  call: Abortable & { readonly subject: string },
): Promise<{ readonly key: number; readonly wanted: WantedDisk }> {
  const { disks, devices, name } = await vmHardware(vsphere, proxy.moref, call)
  const [found, ...more] = disks.filter((each) => each.fileName === disk.fileName)
  const { unitNumber: unit, controllerKey } = devices.find((device) => device.key === found?.key) ?? {}
  const controller = devices.find((device) => device.key === controllerKey)
  const fail = (what: string): AgentError =>
    new AgentError('INTEGRITY', `What was attached to ${name} is not ${disk.fileName}: ${what}.`, {
      subject: disk.fileName,
      next: `Look at the disks and the events of ${name} in vCenter.`,
    })
  if (found === undefined || unit === undefined) throw fail('it has no such disk')
  if (more.length > 0) throw fail(`${more.length + 1} of its disks have this file`)
  const uuid = uuidDigits(disk.uuid)
  if (uuid === undefined || uuidDigits(found.uuid) !== uuid) throw fail(`its uuid is ${found.uuid}, not ${disk.uuid}`)
  const bus = controller?.type === 'VirtualNVMEController' ? 'nvme' : 'scsi'
  return { key: found.key, wanted: { fileName: disk.fileName, uuid, capacityBytes: disk.capacityBytes, unit, bus } }
}
