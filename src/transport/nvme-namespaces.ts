import { join } from 'node:path'
import { fromErrno, SECTOR, writeAttribute } from '../core/index.ts'
import { uuidOfNguid } from './disk-uuid.ts'
import type { GuestDisk } from './hotadd-guest.ts'
import { namesIn, textOf } from './sysfs-files.ts'

/** `nvme0n3`: namespace 3 of controller 0. Paths of a multipath device (`nvme0c1n3`) are none. */
const NAMESPACE = /^nvme\d+n\d+$/

/**
 * Every NVMe namespace of this machine (Linux, `drivers/nvme/host/sysfs.c`). Several disks of one virtual controller are namespaces of it; that a disk's
 * namespace number is its unit in vSphere and one more is our reading, and only told, never relied on.
 */
export async function nvmeDisks(sysfs: string): Promise<readonly GuestDisk[]> {
  const directory = join(sysfs, 'block')
  const disks: GuestDisk[] = []
  for (const name of await namesIn(directory)) {
    if (!NAMESPACE.test(name)) continue
    const device = join(directory, name)
    const sectors = Number(await textOf(join(device, 'size')))
    // Gone, or not all there yet.
    if (!Number.isSafeInteger(sectors) || sectors <= 0) continue
    const unit = Number(await textOf(join(device, 'nsid'))) - 1
    disks.push({ bus: 'nvme', address: name, name, unit, uuid: await uuidOf(device), size: sectors * SECTOR })
  }
  return disks
}

/**
 * `wwid` is `uuid.…` or `eui.` and the NGUID; without either `nvme.` and names that several disks share, or `eui.` and 64 bits: no uuid. The attribute
 * `nguid` says the same where a kernel has it.
 */
async function uuidOf(device: string): Promise<string | undefined> {
  const wwid = /^(?:eui|uuid)\.([0-9a-f-]{32,36})$/i.exec((await textOf(join(device, 'wwid'))) ?? '')?.[1]
  return uuidOfNguid(wwid ?? (await textOf(join(device, 'nguid'))) ?? '')
}

/** Asks every NVMe controller which namespaces it has; one that refuses is left out. */
export async function rescanNvme(sysfs: string): Promise<void> {
  const directory = join(sysfs, 'class', 'nvme')
  for (const controller of await namesIn(directory)) {
    try {
      await writeAttribute(join(directory, controller, 'rescan_controller'), '1')
    } catch (error) {
      if (fromErrno(error) === undefined) throw error
    }
  }
}
