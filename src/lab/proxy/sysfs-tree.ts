import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { SECTOR } from '../../core/index.ts'

export type TreeDisk = {
  /** `host:0:unit:0` */
  readonly address: string
  /** `sdb` */
  readonly name: string
  /** 32 hex digits; undefined = the guest's disks show no uuid. */
  readonly uuid: string | undefined
  readonly capacityBytes: number
  /** What the node leads to; undefined = it has none. */
  readonly target: string | undefined
}

/** The part of a Linux guest's `/sys` and `/dev` that tells of its SCSI disks, as files. Every name comes and goes at once. */
export class SysfsTree {
  readonly sysfs: string
  readonly devices: string

  constructor(directory: string) {
    this.sysfs = join(directory, 'sys')
    this.devices = join(directory, 'dev')
  }

  /** Empty, with who the guest is. `uuid` as SMBIOS has it. */
  make(uuid: string, hosts: readonly number[]): void {
    this.drop()
    const dmi = join(this.sysfs, 'class', 'dmi', 'id')
    for (const path of [dmi, join(this.sysfs, 'bus', 'scsi', 'devices'), join(this.devices, 'disk', 'by-id')])
      mkdirSync(path, { recursive: true })
    writeFileSync(join(dmi, 'sys_vendor'), 'VMware, Inc.\n')
    writeFileSync(join(dmi, 'product_uuid'), `${uuid}\n`)
    for (const host of hosts) this.addHost(host)
  }

  addHost(host: number): void {
    const path = join(this.sysfs, 'class', 'scsi_host', `host${host}`)
    mkdirSync(path, { recursive: true })
    writeFileSync(join(path, 'scan'), '')
  }

  add(disk: TreeDisk): void {
    const { address, name, uuid, capacityBytes, target } = disk
    if (target !== undefined) symlinkSync(target, join(this.devices, name))
    if (uuid !== undefined) {
      for (const id of [`wwn-0x${uuid}`, `scsi-3${uuid}`]) {
        rmSync(this.#byId(id), { force: true })
        symlinkSync(`../../${name}`, this.#byId(id))
      }
    }
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

  remove({ address, name, uuid }: TreeDisk): void {
    const gone = join(this.sysfs, `.gone-${address}`)
    try {
      renameSync(this.#at(address), gone)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
    rmSync(gone, { recursive: true, force: true })
    for (const id of uuid === undefined ? [] : [`wwn-0x${uuid}`, `scsi-3${uuid}`]) rmSync(this.#byId(id), { force: true })
    rmSync(join(this.devices, name), { force: true })
  }

  /** Whether the guest was told to let this disk go. */
  deleted(address: string): boolean {
    return textOf(join(this.#at(address), 'delete')) !== ''
  }

  /** Whether a SCSI host was asked to scan since the last look. */
  scanned(host: number): boolean {
    const path = join(this.sysfs, 'class', 'scsi_host', `host${host}`, 'scan')
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

/** Empty when it is not there. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw error
  }
}
