import { readlink } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Abortable, type Clock, fromErrno, isMissing, SECTOR, toAgentError, unlessAborted, writeAttribute } from '../core/index.ts'
import { naaOfPage83, uuidDigits, uuidWays } from './disk-uuid.ts'
import { nvmeDisks, rescanNvme } from './nvme-namespaces.ts'
import { bytesOf, namesIn, textOf } from './sysfs-files.ts'

export type ProxyGuestOptions = {
  /** Name, uuid or moref of the VM this machine is; found by the SMBIOS uuid alone when absent. */
  readonly proxy?: string | undefined
  /** `/sys`; another directory of the same shape in the lab. */
  readonly sysfs: string
  /** `/dev`; the same. */
  readonly devices: string
  /** How long an attached disk may take to appear, ms. */
  readonly appearMs: number
  readonly clock: Clock
}

/** A SCSI disk or an NVMe namespace as this machine's kernel shows it. */
export type GuestDisk = {
  readonly bus: 'scsi' | 'nvme'
  /** `host:channel:target:lun`, where the host's number is the kernel's, not the bus number of vSphere; `nvme0n2`. */
  readonly address: string
  /** `sdb`, `nvme0n2` */
  readonly name: string
  /** The unit in vSphere that this looks like. */
  readonly unit: number
  /** 32 hex digits; undefined when the disk shows none (`disk.EnableUUID` is not set). */
  readonly uuid: string | undefined
  /** Bytes. */
  readonly size: number
}

/** Who SMBIOS says this machine is; `refusal` when that makes it no proxy VM. */
export type GuestIdentity =
  | { readonly uuids: readonly string[]; readonly refusal?: undefined }
  | { readonly uuids?: undefined; readonly refusal: string }

const REMOVED_MS = 10_000
const LOOK_MS = 100

/**
 * This machine as the guest of a proxy VM: who it is, which SCSI and NVMe disks it sees, and how one is let go. One object per process, because
 * it also keeps the process's own changes of the proxy VM apart. Everything is read when it is asked for.
 */
export class ProxyGuest {
  readonly options: ProxyGuestOptions
  #turns: Promise<unknown> = Promise.resolve()

  constructor(options: ProxyGuestOptions) {
    this.options = Object.freeze({ ...options })
  }

  /** Never throws for a refusal, and asks vSphere nothing. */
  async identity(): Promise<GuestIdentity> {
    const dmi = join(this.options.sysfs, 'class', 'dmi', 'id')
    const vendor = (await textOf(join(dmi, 'sys_vendor'))) ?? 'nothing'
    if (!/vmware/i.test(vendor)) return { refusal: `this machine is not a VM of vSphere (its vendor is ${shown(vendor)})` }
    try {
      const uuids = uuidWays((await textOf(join(dmi, 'product_uuid'))) ?? '')
      return uuids.length > 0 ? { uuids } : { refusal: 'this machine shows no SMBIOS uuid' }
    } catch (error) {
      return { refusal: `its SMBIOS uuid cannot be read: ${toAgentError(error).message}` }
    }
  }

  /** Whether this machine is the VM with this BIOS uuid. */
  async is(biosUuid: string): Promise<boolean> {
    const { uuids } = await this.identity()
    return uuids?.includes(biosUuid.toLowerCase()) ?? false
  }

  /** Every SCSI and NVMe disk there is now. */
  async disks(): Promise<readonly GuestDisk[]> {
    return [...(await this.#scsiDisks()), ...(await nvmeDisks(this.options.sysfs))]
  }

  async #scsiDisks(): Promise<readonly GuestDisk[]> {
    const directory = join(this.options.sysfs, 'bus', 'scsi', 'devices')
    const byId = await this.#byId()
    const disks: GuestDisk[] = []
    for (const address of await namesIn(directory)) {
      if (!/^\d+:\d+:\d+:\d+$/.test(address)) continue
      for (const name of await namesIn(join(directory, address, 'block'))) {
        const sectors = Number(await textOf(join(directory, address, 'block', name, 'size')))
        // Gone, or not all there yet.
        if (!Number.isSafeInteger(sectors) || sectors <= 0) continue
        const uuid = (await uuidOf(join(directory, address))) ?? byId.get(name)
        disks.push({ bus: 'scsi', address, name, unit: Number(address.split(':')[2]), uuid, size: sectors * SECTOR })
      }
    }
    return disks
  }

  /** The node of a disk. */
  path(disk: GuestDisk): string {
    return join(this.options.devices, disk.name)
  }

  /** Asks every SCSI host and NVMe controller to look for new disks; one that refuses is left out. */
  async scan(): Promise<void> {
    await rescanNvme(this.options.sysfs)
    const directory = join(this.options.sysfs, 'class', 'scsi_host')
    for (const host of await namesIn(directory)) {
      try {
        await writeAttribute(join(directory, host, 'scan'), '- - -')
      } catch (error) {
        if (fromErrno(error) === undefined) throw error
      }
    }
  }

  /**
   * Lets the kernel forget a SCSI disk, so that it leaves in good order before its hardware does. Gone already = success; false when the kernel does not let
   * it go in time. A kernel lets no single NVMe namespace go: that happens in `vanished`, after the hardware went.
   */
  async remove({ bus, address }: GuestDisk, options?: Abortable): Promise<boolean> {
    const { clock, sysfs } = this.options
    if (bus === 'nvme') return true
    const device = join(sysfs, 'bus', 'scsi', 'devices', address)
    try {
      await writeAttribute(join(device, 'delete'), '1')
    } catch (error) {
      if (isMissing(error)) return true
      throw fromErrno(error, device) ?? error
    }
    for (const until = clock.monotonicMs() + REMOVED_MS; ; await clock.sleep(LOOK_MS, options)) {
      if ((await namesIn(join(device, 'block'))).length === 0) return true
      if (clock.monotonicMs() >= until) return false
    }
  }

  /** After the hardware of a disk went: until its node is gone too, asking NVMe controllers what they still have. False when it stays. */
  async vanished({ bus, name, uuid }: GuestDisk, options?: Abortable): Promise<boolean> {
    const { clock, sysfs } = this.options
    if (bus === 'scsi') return true
    for (const until = clock.monotonicMs() + REMOVED_MS; ; await clock.sleep(LOOK_MS, options)) {
      await rescanNvme(sysfs)
      if (!(await nvmeDisks(sysfs)).some((disk) => disk.name === name && disk.uuid === uuid)) return true
      if (clock.monotonicMs() >= until) return false
    }
  }

  /** Changes of the proxy VM by this process, one after the other: vSphere takes one at a time. */
  async turn<T>(work: () => Promise<T>, options?: Abortable): Promise<T> {
    const before = this.#turns
    const ended = Promise.withResolvers<void>()
    this.#turns = Promise.all([before, ended.promise])
    try {
      await unlessAborted(before, options?.signal)
      return await work()
    } finally {
      ended.resolve()
    }
  }

  /** Device name → uuid, from the links udev makes of the same page. */
  async #byId(): Promise<ReadonlyMap<string, string>> {
    const directory = join(this.options.devices, 'disk', 'by-id')
    const found = new Map<string, string>()
    for (const name of await namesIn(directory)) {
      const digits = /^(?:wwn-0x|scsi-3)([0-9a-f]{32})$/i.exec(name)?.[1]
      if (digits === undefined) continue
      try {
        found.set(basename(await readlink(join(directory, name))), digits.toLowerCase())
      } catch (error) {
        // The disk went away meanwhile.
        if (!isMissing(error)) throw error
      }
    }
    return found
  }
}

async function uuidOf(device: string): Promise<string | undefined> {
  const wwid = /^naa\.([0-9a-f]{32})$/i.exec((await textOf(join(device, 'wwid'))) ?? '')?.[1]
  if (wwid !== undefined) return uuidDigits(wwid)
  const page = await bytesOf(join(device, 'vpd_pg83'))
  return page === undefined ? undefined : naaOfPage83(page)
}

const shown = (text: string): string => (text === '' ? 'empty' : text.slice(0, 60))
