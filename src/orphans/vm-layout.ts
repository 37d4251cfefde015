import type { VimNode } from '../vsphere/index.ts'

export type LayoutFile = { readonly name: string; readonly bytes: number }

/** A VM's `layoutEx` as far as sizes need it: its files, and which of them each disk's chain is made of, now and in each snapshot. */
export type VmLayout = {
  readonly files: ReadonlyMap<number, LayoutFile>
  readonly disks: readonly ChainLayout[]
  readonly snapshots: readonly SnapshotLayout[]
}

/** One disk's chain from its base upwards; each link by the keys of its files. */
type ChainLayout = { readonly key: number; readonly links: readonly (readonly number[])[] }
/** `ownFiles`: its `.vmsn` and `.vmem`. */
type SnapshotLayout = { readonly snapshot: string; readonly ownFiles: readonly number[]; readonly disks: readonly ChainLayout[] }

/** Files that a host writes when a snapshot is made: descriptor or extent of a redo log. */
const REDO_LOG = /-\d{6}(-delta|-sesparse)?\.vmdk$/

export function parseLayout(node: VimNode): VmLayout {
  const files = new Map<number, LayoutFile>()
  for (const file of node.all('file')) {
    const key = file.number('key')
    if (key !== undefined) files.set(key, { name: file.string('name') ?? '', bytes: file.number('size') ?? 0 })
  }
  const chains = (of: VimNode): readonly ChainLayout[] => of.all('disk').map((disk) => parseChain(disk, files))
  return {
    files,
    disks: chains(node),
    snapshots: node.all('snapshot').map((one) => ({
      snapshot: one.ref('key')?.value ?? '',
      // -1 stands for none.
      ownFiles: [one.number('dataKey'), one.number('memoryKey')].filter((key) => key !== undefined && files.has(key)) as number[],
      disks: chains(one),
    })),
  }
}

function parseChain(disk: VimNode, files: ReadonlyMap<number, LayoutFile>): ChainLayout {
  const links = disk.all('chain').map((unit) => unit.all('fileKey').map((key) => key.asNumber()))
  const isRedo = (link: readonly number[] | undefined): boolean => link?.some((key) => REDO_LOG.test(files.get(key)?.name ?? '')) ?? false
  // Documentation leaves the direction open; the base is the end that is no redo log.
  return { key: disk.number('key') ?? -1, links: isRedo(links[0]) && !isRedo(links.at(-1)) ? links.toReversed() : links }
}

/** Bytes a snapshot costs: its own files, and per disk the redo log that began with it. Undefined when the layout does not know it. */
export function snapshotBytes(layout: VmLayout, snapshot: string): number | undefined {
  const wanted = layout.snapshots.find((one) => one.snapshot === snapshot)
  if (wanted === undefined) return undefined
  const keys = new Set(wanted.ownFiles)
  for (const disk of wanted.disks) {
    const frozen = disk.links.at(-1)
    for (const chain of chainsOf(layout, disk.key)) {
      const at = chain.links.findIndex((link) => sameLink(link, frozen))
      const above = at < 0 ? undefined : chain.links[at + 1]
      for (const key of above ?? []) keys.add(key)
    }
  }
  return totalBytes(layout, keys)
}

/** Redo logs that no snapshot needs: what a consolidation would commit. Extents and descriptors, by name. */
export function surplusRedoLogs(layout: VmLayout): readonly LayoutFile[] {
  const surplus = new Set<number>()
  for (const disk of layout.disks) {
    const frozen = layout.snapshots.flatMap((one) => one.disks.filter(({ key }) => key === disk.key).map(({ links }) => links.at(-1)))
    // With a snapshot left, the topmost redo log is the one the VM writes to.
    const needed = frozen.length === 0 ? [] : [...frozen, disk.links.at(-1)]
    for (const link of disk.links.slice(1)) {
      if (!needed.some((other) => sameLink(link, other))) for (const key of link) surplus.add(key)
    }
  }
  return [...surplus].map((key) => layout.files.get(key)).filter((file) => file !== undefined)
}

const chainsOf = (layout: VmLayout, key: number): readonly ChainLayout[] =>
  [layout.disks, ...layout.snapshots.map(({ disks }) => disks)].flat().filter((disk) => disk.key === key)

const sameLink = (a: readonly number[], b: readonly number[] | undefined): boolean =>
  b !== undefined && a.length === b.length && a.every((key, index) => key === b[index])

const totalBytes = (layout: VmLayout, keys: Iterable<number>): number =>
  [...keys].reduce((sum, key) => sum + (layout.files.get(key)?.bytes ?? 0), 0)
