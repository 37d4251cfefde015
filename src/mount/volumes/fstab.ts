import type { Volume } from './volume.ts'

export type FstabEntry = {
  /** What is mounted, as written: `UUID=…`, `/dev/mapper/vg-lv`. */
  readonly what: string
  /** Names from the top; empty for `/`. */
  readonly where: readonly string[]
  /** `subvol=` of btrfs. */
  readonly subvolume: string | undefined
}

const MOST_LINES = 4096
const MOST_NAMES = 32
/** What is no file system on a disk of this VM. */
const OTHER = new Set([
  'swap',
  'none',
  'proc',
  'sysfs',
  'tmpfs',
  'devpts',
  'nfs',
  'nfs4',
  'cifs',
  'overlay',
  'bind',
  'fuse',
  'autofs',
  'cgroup2',
])

export type Fstab = {
  readonly entries: readonly FstabEntry[]
  /** Mount points that were refused, and why: half sentences. */
  readonly refused: readonly string[]
}

/**
 * Parses /etc/fstab of a guest (fstab(5)), parents before what is mounted in them. A mount point is refused unless it is absolute and free of `.`, `..` and NUL:
 * it will be joined to a directory of the proxy.
 */
export function parseFstab(bytes: Uint8Array): Fstab {
  const entries: FstabEntry[] = []
  const refused: string[] = []
  for (const line of Buffer.from(bytes).toString('utf8').split('\n').slice(0, MOST_LINES)) {
    const [what, where, type, options = ''] = line
      .trim()
      .split(/[ \t]+/)
      .map(unescaped)
    if (what === undefined || where === undefined || type === undefined || what.startsWith('#') || OTHER.has(type)) continue
    const settings = options.split(',')
    if (where === 'none' || where === 'swap' || settings.includes('bind') || settings.includes('rbind')) continue
    const names = where.split('/').filter((name) => name !== '')
    if (!where.startsWith('/') || names.length > MOST_NAMES || names.some((name) => !isPlainName(name))) {
      refused.push(`/etc/fstab of the guest names the mount point ${JSON.stringify(where)}, which is not used`)
      continue
    }
    const subvolume = plainPath(settings.find((setting) => setting.startsWith('subvol='))?.slice('subvol='.length))
    if (!entries.some((entry) => entry.where.join('/') === names.join('/'))) entries.push({ what, where: names, subvolume })
  }
  return { entries: entries.toSorted((a, b) => a.where.length - b.where.length), refused }
}

/** Without the slash at its beginning; undefined where it is none or leads elsewhere. */
function plainPath(path: string | undefined): string | undefined {
  const names = path?.split('/').filter((name) => name !== '') ?? []
  return names.length > 0 && names.length <= MOST_NAMES && names.every(isPlainName) ? names.join('/') : undefined
}

/** One name of a path that stays where it is put. */
export const isPlainName = (name: string): boolean =>
  name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && Buffer.byteLength(name) <= 255

const unescaped = (field: string): string =>
  field.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))

/**
 * The volume that an fstab names. By uuid, label, partition and logical volume; a bare `/dev/sdb1` means the order of the disks as it was given, which is what
 * Linux makes of them on one controller.
 */
export function volumeNamed(what: string, volumes: readonly Volume[], disks: readonly number[]): Volume | undefined {
  const tag = /^(UUID|LABEL|PARTUUID|PARTLABEL)=(.*)$/.exec(what) ?? byLink(what)
  if (tag !== undefined && tag !== null) {
    const [, kind, quoted = ''] = tag
    const value = quoted.replace(/^"(.*)"$/, '$1')
    return volumes.find((volume) => valueOf(volume, kind ?? '')?.some((own) => own.toLowerCase() === value.toLowerCase()) === true)
  }
  const device = /^\/dev\/(?:[shv]d([a-z])(\d+)|xvd([a-z])(\d+)|nvme(\d+)n1p(\d+))$/.exec(what)
  if (device !== null) {
    const [, letter, number, xenLetter, xenNumber, nvme, nvmeNumber] = device
    const disk = nvme === undefined ? (letter ?? xenLetter ?? 'a').charCodeAt(0) - 97 : Number(nvme)
    const index = Number(number ?? xenNumber ?? nvmeNumber)
    return volumes.find(({ partition }) => partition !== undefined && partition.disk === disks[disk] && partition.index === index)
  }
  return volumes.find(({ logical }) => logical !== undefined && namesOf(logical.group, logical.name).includes(what))
}

/** `/dev/disk/by-uuid/…` and its kin; blanks in it are written `\x20`. */
function byLink(what: string): [string, string, string] | undefined {
  const link = /^\/dev\/disk\/by-(uuid|label|partuuid|partlabel)\/([^/]+)$/.exec(what)
  if (link === null) return undefined
  const value = (link[2] ?? '').replace(/\\x([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)))
  return [what, (link[1] ?? '').toUpperCase(), value]
}

/** device-mapper doubles the dashes of both names. */
const namesOf = (group: string, name: string): string[] => [
  `/dev/${group}/${name}`,
  `/dev/mapper/${group.replaceAll('-', '--')}-${name.replaceAll('-', '--')}`,
]

function valueOf({ content, partition }: Volume, kind: string): string[] | undefined {
  const present = (value: string | undefined): string[] => (value === undefined ? [] : [value])
  if (kind === 'UUID') return content.kind === 'file-system' ? present(content.uuid) : undefined
  if (kind === 'LABEL') return content.kind === 'file-system' ? present(content.label) : undefined
  if (partition === undefined) return undefined
  if (kind === 'PARTLABEL') return present(partition.name)
  if (partition.scheme === 'gpt') return present(partition.uuid)
  return [`${(partition.diskSignature ?? 0).toString(16).padStart(8, '0')}-${partition.index.toString(16).padStart(2, '0')}`]
}
