import { type Range, toAgentError, type TransportName } from '../../src/core/index.ts'
import type { DiskDigest } from '../../src/lab/index.ts'
import { createSnapshots } from '../../src/snapshot/index.ts'
import type { SnapshotDisk, Transport } from '../../src/transport/index.ts'
import { type DiskKind, vmOf } from './disk-kinds.ts'
import { freezeDisks, type FrozenDisks } from './frozen-disks.ts'
import { ImageUnderTest } from './image-under-test.ts'
import { readInto } from './read-disk.ts'
import { TRANSPORTS, type TransportUnderTest } from './transports.ts'
import type { TransportWorld } from './world.ts'

export type Mode = 'full' | 'changed'

/** One disk read by one transport. */
export type Cell = {
  readonly kind: string
  readonly mode: Mode
  readonly transport: TransportName
  /** Read from the disk. */
  readonly bytes: number
  /** It reads whole disks, also where only changes were wanted. */
  readonly whole: boolean
  /** Undefined when the bytes are those of the lab's digest. */
  readonly wrong: string | undefined
}

export type Line = { readonly kind: DiskKind; readonly links: number; readonly mode: Mode; readonly cells: readonly Cell[] }

/** Seeds of the guest's writes; a chain takes some. */
const CHANGE_SEED = 1000

/** Lets the guest write where this kind of disk is written to: scattered places, or exactly those it has. */
async function guestWrites({ lab }: TransportWorld, kind: DiskKind, seed: number): Promise<void> {
  const vm = vmOf(kind)
  if (kind.places === undefined) await lab.write(vm, { percent: 4, unit: 24_576, seed })
  else
    await lab.write(vm, {
      areas: kind.places.map(({ offset, length }) => ({ offset: offset + (seed % 3) * 512, length: length - 1024 })),
      seed,
    })
}

/** The links below: each holds what the guest wrote before the next snapshot. */
export async function makeChain(world: TransportWorld, kind: DiskKind): Promise<void> {
  for (let index = 0; index <= kind.snapshots; index++) {
    await guestWrites(world, kind, index + 1)
    if (index < kind.snapshots) await world.userSnapshot(vmOf(kind), `user ${index + 1}`)
  }
}

/**
 * Reads a disk by each transport, whole and then only what the guest changed since, and compares each with the digest that the lab took of the same
 * snapshot by itself. The changes are laid over what the same transport read before, as a restore point does it.
 */
export async function compareDisk(
  world: TransportWorld,
  kind: DiskKind,
  tested: readonly TransportUnderTest[] = TRANSPORTS,
): Promise<readonly Line[]> {
  const images = new Map<TransportName, ImageUnderTest>()
  const imageOf = (name: TransportName): ImageUnderTest => {
    const image = images.get(name) ?? new ImageUnderTest(kind.size)
    images.set(name, image)
    return image
  }
  const snapshots = createSnapshots(world.site.vsphere)
  const line = async (
    mode: Mode,
    areasOf: (disk: SnapshotDisk) => Promise<readonly Range[]>,
    since?: string,
  ): Promise<readonly [Line, string]> => {
    await using frozen = await freezeDisks(world.site.vsphere, vmOf(kind), world.site.guest)
    const [disk] = frozen.disks
    if (disk === undefined) throw new Error(`${kind.name} has no disk`)
    if (since !== undefined && disk.disk.changeId === since) throw new Error(`${kind.name} has not changed`)
    const [wanted] = await world.lab.sha256(vmOf(kind), frozen.snapshot.name)
    if (wanted === undefined) throw new Error(`the lab has no digest of ${kind.name}`)
    const areas = await areasOf(disk)
    const cells: Cell[] = []
    for (const entry of tested) {
      const transport = entry.make(world.site)
      const whole = transport.wholeDisks === true
      const image = mode === 'changed' && !whole ? imageOf(entry.name) : new ImageUnderTest(kind.size)
      images.set(entry.name, image)
      const read = await readBy(transport, frozen, { ...disk, wanted: mode === 'changed' ? 'changed' : 'allocated' }, image, areas, wanted)
      cells.push({ kind: kind.name, mode, transport: entry.name, whole, ...read })
    }
    return [{ kind, links: disk.disk.chain.length, mode, cells }, disk.disk.changeId ?? '']
  }
  const everything: readonly Range[] = [{ offset: 0, length: kind.size }]
  const [full, changeId] = await line('full', async ({ snapshot, disk }) =>
    kind.places === undefined ? everything : Array.fromAsync(snapshots.allocated(snapshot, disk)),
  )
  await guestWrites(world, kind, CHANGE_SEED)
  const [changed] = await line(
    'changed',
    async ({ snapshot, disk }) => Array.fromAsync(snapshots.changed(snapshot, disk, changeId)),
    changeId,
  )
  return [full, changed]
}

async function readBy(
  transport: Transport,
  frozen: FrozenDisks,
  disk: SnapshotDisk,
  image: ImageUnderTest,
  areas: readonly Range[],
  wanted: DiskDigest,
): Promise<Pick<Cell, 'bytes' | 'wrong'>> {
  const whole = transport.wholeDisks === true
  let bytes = 0
  try {
    if (whole && disk.wanted === 'changed') {
      const refused = await transport.probe(disk)
      if (refused.ok) return { bytes, wrong: 'it reads whole disks and does not say so where only changes are wanted' }
    }
    const asked: SnapshotDisk = whole ? { ...disk, wanted: 'allocated' } : disk
    const verdict = await transport.probe(asked)
    if (!verdict.ok) return { bytes, wrong: `refused: ${verdict.reason}` }
    {
      await using source = await transport.open(asked, { claims: frozen.claims })
      bytes = await readInto(image, source, whole ? [{ offset: 0, length: image.size }] : areas)
      await source.finish?.()
    }
    const left = frozen.held()
    if (left.length > 0) return { bytes, wrong: `still held: ${left.join(', ')}` }
    const digest = image.digest(wanted.kind)
    return { bytes, wrong: digest === wanted.sha256 ? undefined : `DIFFERS: ${digest} instead of ${wanted.sha256}` }
  } catch (error) {
    return { bytes, wrong: `failed: ${toAgentError(error).message}` }
  }
}
