import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { SECTOR } from '../../core/index.ts'

export type TreeDisk = TreePlace & {
  /** `sdb`, `nvme0n2` */
  readonly name: string
  /** 32 hex digits; undefined = the guest's disks show no uuid. */
  readonly uuid: string | undefined
  readonly capacityBytes: number
  /** What the node leads to; undefined = it has none. */
  readonly target: string | undefined
}

/** A SCSI disk's `host:0:unit:0`, or a namespace of an NVMe controller. */
type TreePlace =
  | { readonly address: string; readonly nvme?: undefined }
  | { readonly nvme: number; readonly nsid: number; readonly address?: undefined }

const MODEL = 'VMware Virtual NVMe Disk'
const serialOf = (controller: number): string => `VMware NVME_${String(controller).padStart(4, '0')}`
const hex = (text: string): string => Buffer.from(text, 'latin1').toString('hex')

/** The part of a Linux guest's `/sys` and `/dev` that tells of its SCSI and NVMe disks, as files. Every name comes and goes at once. */
export class SysfsTree {
  readonly sysfs: string
  readonly devices: string

  constructor(directory: string) {
    this.sysfs = join(directory, 'sys')
    this.devices = join(directory, 'dev')
  }

  /** Empty, with who the guest is. `uuid` as SMBIOS has it. */
  make(uuid: string, hosts: readonly number[], controllers: readonly number[] = []): void {
    this.drop()
    const dmi = join(this.sysfs, 'class', 'dmi', 'id')
    for (const path of [dmi, join(this.sysfs, 'bus', 'scsi', 'devices'), join(this.sysfs, 'block'), join(this.devices, 'disk', 'by-id')])
      mkdirSync(path, { recursive: true })
    writeFileSync(join(dmi, 'sys_vendor'), 'VMware, Inc.\n')
    writeFileSync(join(dmi, 'product_uuid'), `${uuid}\n`)
    for (const host of hosts) this.addHost(host)
    for (const controller of controllers) this.#addController(controller)
  }

  #addController(controller: number): void {
    const path = join(this.sysfs, 'class', 'nvme', `nvme${controller}`)
    mkdirSync(path, { recursive: true })
    writeFileSync(join(path, 'model'), `${MODEL.padEnd(40)}\n`)
    writeFileSync(join(path, 'serial'), `${serialOf(controller).padEnd(20)}\n`)
    writeFileSync(join(path, 'transport'), 'pcie\n')
    writeFileSync(join(path, 'rescan_controller'), '')
  }

  addHost(host: number): void {
    const path = join(this.sysfs, 'class', 'scsi_host', `host${host}`)
    mkdirSync(path, { recursive: true })
    writeFileSync(join(path, 'scan'), '')
  }

  add(disk: TreeDisk): void {
    const { name, target } = disk
    if (target !== undefined) symlinkSync(target, join(this.devices, name))
    for (const id of idsOf(disk)) {
      rmSync(this.#byId(id), { force: true })
      symlinkSync(`../../${name}`, this.#byId(id))
    }
    if (disk.address === undefined) this.#addNamespace(disk)
    else this.#addScsi(disk, disk.address)
  }

  #addNamespace({ name, nvme, nsid, uuid, capacityBytes }: TreeDisk & { readonly nvme: number }): void {
    const beside = join(this.sysfs, `.${name}`)
    mkdirSync(beside, { recursive: true })
    writeFileSync(join(beside, 'size'), `${capacityBytes / SECTOR}\n`)
    writeFileSync(join(beside, 'nsid'), `${nsid}\n`)
    writeFileSync(join(beside, 'wwid'), `${uuid === undefined ? shared(nvme, nsid) : `eui.${nguidOf(uuid)}`}\n`)
    if (uuid !== undefined) writeFileSync(join(beside, 'nguid'), `${dashed(nguidOf(uuid))}\n`)
    renameSync(beside, join(this.sysfs, 'block', name))
  }

  #addScsi({ name, uuid, capacityBytes }: TreeDisk, address: string): void {
    const beside = join(this.sysfs, `.${address}`)
    mkdirSync(join(beside, 'block', name), { recursive: true })
    writeFileSync(join(beside, 'block', name, 'size'), `${capacityBytes / SECTOR}\n`)
    writeFileSync(join(beside, 'vendor'), 'VMware  \n')
    writeFileSync(join(beside, 'model'), 'Virtual disk    \n')
    writeFileSync(join(beside, 'delete'), '')
    if (uuid !== undefined) {
      writeFileSync(join(beside, 'wwid'), `naa.${uuid}\n`)
      writeFileSync(join(beside, 'vpd_pg83'), Buffer.concat([Buffer.from([0, 0x83, 0, 20, 1, 3, 0, 16]), Buffer.from(uuid, 'hex')]))
    }
    renameSync(beside, this.#at(address))
  }

  remove(disk: TreeDisk): void {
    const { address, name } = disk
    const gone = join(this.sysfs, `.gone-${address ?? name}`)
    try {
      renameSync(address === undefined ? join(this.sysfs, 'block', name) : this.#at(address), gone)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
    rmSync(gone, { recursive: true, force: true })
    for (const id of idsOf(disk)) rmSync(this.#byId(id), { force: true })
    rmSync(join(this.devices, name), { force: true })
  }

  /** Whether the guest was told to let this disk go; there is no such word for a namespace. */
  deleted({ address }: TreeDisk): boolean {
    return address !== undefined && textOf(join(this.#at(address), 'delete')) !== ''
  }

  /** Whether a SCSI host was asked to scan since the last look. */
  scanned(host: number): boolean {
    return this.#asked(join(this.sysfs, 'class', 'scsi_host', `host${host}`, 'scan'))
  }

  /** Whether an NVMe controller was asked for its namespaces since the last look. */
  rescanned(controller: number): boolean {
    return this.#asked(join(this.sysfs, 'class', 'nvme', `nvme${controller}`, 'rescan_controller'))
  }

  #asked(path: string): boolean {
    if (textOf(path) === '') return false
    writeFileSync(path, '')
    return true
  }

  /** All of it. */
  drop(): void {
    rmSync(this.sysfs, { recursive: true, force: true })
    rmSync(this.devices, { recursive: true, force: true })
  }

  /** The directory that all of it is in. */
  get directory(): string {
    return dirname(this.sysfs)
  }

  readonly #at = (address: string): string => join(this.sysfs, 'bus', 'scsi', 'devices', address)
  readonly #byId = (id: string): string => join(this.devices, 'disk', 'by-id', id)
}

/** Links of udev that name this disk alone; those of model and serial, which the disks of a controller share, end with the namespace. */
function idsOf(disk: TreeDisk): readonly string[] {
  const { uuid } = disk
  if (disk.address !== undefined) return uuid === undefined ? [] : [`wwn-0x${uuid}`, `scsi-3${uuid}`]
  const { nvme, nsid } = disk
  const bySerial = `nvme-${MODEL}_${serialOf(nvme)}_${nsid}`.replaceAll(' ', '_')
  return [bySerial, `nvme-${uuid === undefined ? shared(nvme, nsid) : `eui.${nguidOf(uuid)}`}`]
}

/** What a kernel makes of vendor, serial, model and namespace where there is no other id. */
const shared = (controller: number, nsid: number): string =>
  `nvme.15ad-${hex(serialOf(controller))}-${hex(MODEL)}-${nsid.toString(16).padStart(8, '0')}`

/**
 * A disk's uuid, which is an NAA id of type 6, in the format of a namespace's NGUID: its last 8 bytes, the OUI, then the NAA digit with what is left. Seen of
 * VMware's guests: `eui.9dfd990a196977a6000c296a31919277`.
 */
function nguidOf(uuid: string): string {
  const naa = uuid.slice(0, 1)
  const oui = uuid.slice(1, 7)
  return `${uuid.slice(16)}${oui}${naa}${uuid.slice(7, 16)}`
}

const dashed = (digits: string): string => digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')

/** Empty when it is not there. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw error
  }
}
