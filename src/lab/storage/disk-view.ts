import { closeSync, fstatSync, openSync } from 'node:fs'
import { type Range, SECTOR } from '../../core/index.ts'
import type { Datastore } from './datastore.ts'
import { diskChain } from './disk-info.ts'
import { readExactly } from './exact-io.ts'
import { dataAreas } from './file-holes.ts'
import type { Link } from './link.ts'
import { openLink } from './open-link.ts'
import { LabStorageError, translated } from './storage-error.ts'

/** A disk to look at: the view through one link of a chain. */
export interface DiskView extends Disposable {
  readonly size: number
  /** Fills `into`. InvalidOffset. */
  read(offset: number, into: Uint8Array): void
  /** Ordered areas that may hold something other than zeros; found without reading data. */
  allocated(range?: Range): Generator<Range>
}

/** The frozen view through link `path`, opened on its own file handles. Dispose it. */
export function openView(datastore: Datastore, path: string): DiskView {
  const infos = diskChain(datastore, path)
  const links: Link[] = []
  try {
    for (const info of infos) links.push(openLink(datastore, info, true))
  } catch (error) {
    for (const link of links) link.close()
    throw error
  }
  const size = links[0]?.capacity ?? 0
  let open = true
  return {
    size,
    read: (offset, into) => {
      checkRange(offset, into.length, size)
      readThrough(links, 0, offset, into)
    },
    allocated: (range) => allocatedThrough(links, 0, range ?? { offset: 0, length: size }),
    [Symbol.dispose]: () => {
      if (!open) return
      open = false
      for (const link of links) link.close()
    },
  }
}

/** A raw image file as a view (fsck and digests of a restored disk). FileNotFound. */
export function openRawView(path: string): DiskView {
  const fd = translated(path, () => openSync(path, 'r'))
  const { size } = fstatSync(fd)
  let open = true
  return {
    size,
    read: (offset, into) => {
      checkRange(offset, into.length, size)
      readExactly(fd, offset, into)
    },
    allocated: (range) => dataAreas(fd, range ?? { offset: 0, length: size }),
    [Symbol.dispose]: () => {
      if (open) closeSync(fd)
      open = false
    },
  }
}

/** Reads from link `index` on downwards; past the end of a shorter parent are zeros. */
export function readThrough(links: readonly Link[], index: number, offset: number, into: Uint8Array): void {
  const link = links[index]
  const inside = link === undefined ? 0 : Math.max(0, Math.min(into.length, link.capacity - offset))
  if (inside < into.length) into.fill(0, inside)
  if (link === undefined || inside === 0) return
  for (const run of link.runs(offset, inside, false)) {
    const part = into.subarray(run.offset - offset, run.offset - offset + run.length)
    if (run.kind === 'data') link.readAt(run.at, part)
    else if (run.kind === 'zero') part.fill(0)
    else readThrough(links, index + 1, run.offset, part)
  }
}

/** Areas with data in any link, neighbours joined. */
export function* allocatedThrough(links: readonly Link[], index: number, range: Range): Generator<Range> {
  let current: Range | undefined
  for (const area of areas(links, index, range)) {
    if (current !== undefined && current.offset + current.length === area.offset) {
      current = { offset: current.offset, length: current.length + area.length }
    } else {
      if (current !== undefined) yield current
      current = area
    }
  }
  if (current !== undefined) yield current
}

function* areas(links: readonly Link[], index: number, range: Range): Generator<Range> {
  const link = links[index]
  if (link === undefined) return
  const length = Math.min(range.length, link.capacity - range.offset)
  if (length <= 0) return
  for (const run of link.runs(range.offset, length, true)) {
    if (run.kind === 'data') yield { offset: run.offset, length: run.length }
    else if (run.kind === 'absent') yield* areas(links, index + 1, run)
  }
}

export function checkRange(offset: number, length: number, size: number, sectors = false): void {
  const whole = !sectors || (offset % SECTOR === 0 && length % SECTOR === 0)
  if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= size && whole) return
  throw new LabStorageError('InvalidOffset', `The area at ${offset} of ${length} bytes is not inside a disk of ${size} bytes.`, `${offset}`)
}
