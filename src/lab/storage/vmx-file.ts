import { LabStorageError } from './storage-error.ts'

export type VmxBus = 'scsi' | 'sata' | 'nvme' | 'ide'
export type VmxDisk = {
  readonly bus: VmxBus
  readonly busNumber: number
  readonly unitNumber: number
  /** As in the file: relative to the VM's directory, or `/vmfs/volumes/DS/dir/x.vmdk`. */
  readonly fileName: string
  /** `persistent` when absent. */
  readonly mode: string
  readonly ctkEnabled: boolean
  /** `scsi-hardDisk`, … */
  readonly deviceType: string
}

const MAX_CHARACTERS = 1024 * 1024

/** A VMX file: keys in order, compared without case, values unescaped. */
export class VmxFile {
  readonly #entries = new Map<string, { readonly key: string; readonly value: string }>()

  /** InvalidDisk for a line that is neither `key = "value"`, a comment nor blank, or a file above 1 MiB. The last of equal keys counts. */
  static parse(text: string): VmxFile {
    const file = new VmxFile()
    if (text.length > MAX_CHARACTERS) throw new LabStorageError('InvalidDisk', 'The VMX file is too large to be one.', 'vmx')
    for (const raw of text.replace(/^\ufeff/, '').split(/\r?\n/)) {
      const line = raw.trim()
      if (line === '' || line.startsWith('#') || line.startsWith('!')) continue
      const found = /^([^\s="]+)\s*=\s*(?:"([^"]*)"|(\S*))\s*(?:#.*)?$/.exec(line)
      const [, key, quoted, plain = ''] = found ?? []
      if (key === undefined)
        throw new LabStorageError('InvalidDisk', `The VMX file has a line that means nothing: ${line.slice(0, 80)}`, 'vmx')
      if (key.toLowerCase() !== '.encoding') file.set(key, unescaped(quoted ?? plain))
    }
    return file
  }

  get(key: string): string | undefined {
    return this.#entries.get(key.toLowerCase())?.value
  }

  set(key: string, value: string): this {
    this.#entries.set(key.toLowerCase(), { key: this.#entries.get(key.toLowerCase())?.key ?? key, value })
    return this
  }

  delete(key: string): boolean {
    return this.#entries.delete(key.toLowerCase())
  }

  *entries(): Generator<readonly [string, string]> {
    for (const { key, value } of this.#entries.values()) yield [key, value]
  }

  /** With `.encoding` first; `"`, `|` and control characters as `|22`, `|7C`, `|0A`. */
  format(): string {
    const lines = ['.encoding = "UTF-8"']
    for (const { key, value } of this.#entries.values()) lines.push(`${key} = "${escaped(value)}"`)
    return `${lines.join('\n')}\n`
  }

  /** Present hard disks by bus, controller and unit. */
  disks(): readonly VmxDisk[] {
    const disks: VmxDisk[] = []
    for (const { key, value } of this.#entries.values()) {
      const found = /^(scsi|sata|nvme|ide)(\d{1,2}):(\d{1,2})\.filename$/i.exec(key)
      const [, bus, busNumber, unitNumber] = found ?? []
      if (bus === undefined) continue
      const slot = key.slice(0, key.lastIndexOf('.'))
      const deviceType = this.get(`${slot}.deviceType`) ?? 'disk'
      if (this.get(`${slot}.present`)?.toUpperCase() === 'FALSE' || !value.endsWith('.vmdk') || deviceType.includes('cdrom')) continue
      disks.push({
        bus: bus.toLowerCase() as VmxBus,
        busNumber: Number(busNumber),
        unitNumber: Number(unitNumber),
        fileName: value,
        mode: this.get(`${slot}.mode`) ?? 'persistent',
        ctkEnabled: this.get(`${slot}.ctkEnabled`)?.toUpperCase() === 'TRUE',
        deviceType,
      })
    }
    const order = ['ide', 'scsi', 'sata', 'nvme']
    return disks.toSorted((a, b) => order.indexOf(a.bus) - order.indexOf(b.bus) || a.busNumber - b.busNumber || a.unitNumber - b.unitNumber)
  }
}

const unescaped = (text: string): string =>
  text.replace(/(?:\|[0-9A-Fa-f]{2})+/g, (run) => Buffer.from(run.replaceAll('|', ''), 'hex').toString('utf8'))

const escaped = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being escaped
  text.replace(/[\u0000-\u001f\u007f"|]/g, (character) => `|${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)
