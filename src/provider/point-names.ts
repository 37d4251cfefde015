import { hash } from 'node:crypto'
import { AgentError, type DiskRef, safeFileName, type VmConfig } from '../core/index.ts'

export const MANIFEST_FILE = 'manifest.json'
/** Ends every generated name can have; a small file must not take one of a disk. */
const DISK_ENDINGS = ['.vmdk', '-flat.vmdk', '-extents', '.changes', '.map', '.sha256blocks'] as const
const OWN_FILES = new Set([MANIFEST_FILE, 'point.json', 'commit.json', 'sha256sums', 'catalog'])

/** Leaves room for a key and every ending within what any file system takes. */
const MOST_STEM_BYTES = 180

/** File names of one restore point (docs/formats/restore-point.md), decided once from the VM's configuration. */
export class PointNames {
  /** The VM directory: one safe component. */
  readonly directory: string
  readonly #disks: ReadonlyMap<number, string>

  constructor(config: VmConfig, stem: (disk: DiskRef) => string = stemOf) {
    this.directory = safeFileName(config.vm.name)
    const wanted = config.disks.map((disk) => ({ key: disk.key, stem: stem(disk) }))
    const uses = Map.groupBy(wanted, ({ stem }) => stem.toLowerCase())
    this.#disks = new Map(
      wanted.map(({ key, stem }) => [key, uses.get(stem.toLowerCase())?.length === 1 ? stem : `${stem}-${key}`] as const),
    )
  }

  /** Stem of a disk's files. USAGE for a disk the VM's configuration does not have. */
  disk(disk: Pick<DiskRef, 'key' | 'label'>): string {
    const name = this.#disks.get(disk.key)
    if (name === undefined) throw new AgentError('USAGE', `The disk ${disk.label} (key ${disk.key}) is not in the VM's configuration.`)
    return name
  }

  /** USAGE when a small file's name is not one safe component or belongs to a disk or the manifest. */
  checkFile(name: string): void {
    if (!isSafeName(name)) throw new AgentError('USAGE', `"${name}" cannot be the name of a file in a restore point.`, { subject: name })
    const lower = name.toLowerCase()
    const taken = [...this.#disks.values()].some((disk) => DISK_ENDINGS.some((ending) => lower === `${disk}${ending}`.toLowerCase()))
    if (taken || OWN_FILES.has(lower)) {
      throw new AgentError('USAGE', `The name "${name}" is taken by the restore point itself.`, { subject: name })
    }
  }
}

/** One component that stays in its directory and that any file system takes: what `safeFileName` gives, and nothing wilder. */
export const isSafeName = (name: string): boolean =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is being refused
  name !== '' && !name.startsWith('.') && !/[\u0000-\u001f\u007f/\\]/u.test(name) && name.isWellFormed() && Buffer.byteLength(name) <= 255

/** `web01_1` from `[datastore] web01/web01_1.vmdk`, of the base disk: snapshots of the VM must not change the name. */
export function stemOf(disk: Pick<DiskRef, 'key' | 'fileName' | 'chain'>): string {
  const base = disk.chain.at(-1) ?? disk.fileName
  const file = base.slice(Math.max(base.lastIndexOf('/'), base.lastIndexOf('] ') + 1) + 1)
  // `%` only ever stands for itself in names this product makes; disks of one VM that come out equal are told apart by their key.
  const stem = safeFileName(file.replace(/\.vmdk$/iu, '') || `disk-${disk.key}`).replaceAll('%', '_')
  return Buffer.byteLength(stem) <= MOST_STEM_BYTES ? stem : `${stem.slice(0, 40).toWellFormed()}~${hash('sha256', stem).slice(0, 16)}`
}

/** `20261122T183000Z`. */
export const compactTime = (time: string): string => new Date(time).toISOString().replaceAll(/[-:]|\.\d+/gu, '')

/** Name of a point in a directory of points: who, when, which run. */
export const pointName = (directory: string, time: string, run: string): string => `${directory}.${compactTime(time)}.${safeFileName(run)}`
