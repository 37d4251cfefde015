/**
 * The benchmark's disk: a sparse raw image that looks like a server's used disk, made without network from what any checkout has, and the
 * same on every run. 53 % of it is allocated in a few hundred extents: live files, logs, compressed blobs, deleted files whose data is
 * still there, and blocks that were written as zeros. `node bench/image.ts PATH [--size 8G]` writes one to look at.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { accessLog, type Content, fileTree, incompressible, zeros } from './content.ts'
import { seededRandom } from './random.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
const BLOCK = 64 * 1024
const TREE = join(import.meta.dirname, '..', 'node_modules')

type Range = { readonly offset: number; readonly length: number }

/** Parts of the allocated data, in MiB of an 8 GiB disk; smaller disks get their share. Deleted trees are trees to whoever reads blocks. */
const PARTS = [
  { name: 'files', mib: 2550 },
  { name: 'deleted files', mib: 850 },
  { name: 'logs', mib: 270 },
  { name: 'compressed blobs', mib: 340 },
  { name: 'written zeros', mib: 300 },
] as const
type PartName = (typeof PARTS)[number]['name']

/** Writes day 1. Returns what was allocated, in order. `size`: bytes, a multiple of 64 KiB. Another `seed` gives another disk. */
export function makeImage(path: string, size: number, seed = 'day 1'): Range[] {
  const random = seededRandom(`vcb-proxy image ${size}${seed === 'day 1' ? '' : seed}`)
  const contents = contentsFor(seed)
  const file = openSync(path, 'w')
  try {
    ftruncateSync(file, size)
    const runs = layOut(size, random.below)
    for (const { part, offset, length } of runs) {
      for (let done = 0; done < length; ) {
        const piece = Math.min(4 * MIB, length - done)
        writeSync(file, contents[part](piece), 0, piece, offset + done)
        done += piece
      }
    }
    return runs.map(({ offset, length }) => ({ offset, length }))
  } finally {
    closeSync(file)
  }
}

const contentsFor = (seed: string): Readonly<Record<PartName, Content>> => {
  const tree = fileTree(TREE)
  return {
    files: tree,
    'deleted files': tree,
    logs: accessLog(seededRandom(`${seed} log`)),
    'compressed blobs': incompressible(seededRandom(`${seed} blobs`)),
    'written zeros': zeros,
  }
}

/** Runs of 4 to 29 MiB, one part each, with gaps between them that never were written; the first run begins at offset 0. */
function layOut(size: number, below: (below: number) => number): (Range & { readonly part: PartName })[] {
  const scale = size / (8 * GIB)
  const left = new Map<PartName, number>(PARTS.map(({ name, mib }) => [name, Math.floor((mib * MIB * scale) / BLOCK) * BLOCK]))
  const remaining = (): number => [...left.values()].reduce((sum, bytes) => sum + bytes, 0)
  let gaps = size - remaining()
  const runs: (Range & { readonly part: PartName })[] = []
  for (let offset = 0; remaining() > 0; ) {
    const wanted = 4 * MIB + below(400) * BLOCK
    let point = below(remaining())
    const part = PARTS.map(({ name }) => name).find((name) => (point -= left.get(name) ?? 0) < 0) ?? 'files'
    const length = Math.min(wanted, left.get(part) ?? 0)
    const gap = Math.min(gaps, Math.floor((wanted * gaps) / Math.max(remaining(), 1) / BLOCK) * BLOCK)
    runs.push({ part, offset, length })
    left.set(part, (left.get(part) ?? 0) - length)
    gaps -= gap
    offset += length + gap
  }
  return runs
}

/** A disk of `size` bytes that is empty but for `data` bytes of files, in runs of 16 MiB spread evenly over it. */
export function makeSparseImage(path: string, size: number, data: number): void {
  const piece = Math.min(16 * MIB, data)
  const pieces = Math.floor(data / piece)
  const tree = fileTree(TREE)
  const file = openSync(path, 'w')
  try {
    ftruncateSync(file, size)
    for (let index = 0; index < pieces; index++) {
      const offset = Math.floor(((size / pieces) * index) / BLOCK) * BLOCK
      writeSync(file, tree(piece), 0, piece, offset)
    }
  } finally {
    closeSync(file)
  }
}

/**
 * Day 2: rewrites `share` of the disk in place, in runs of 1 to 12 blocks of 64 KiB, most of them in the used part: half existing data
 * changed a little, a quarter log lines, a quarter incompressible. Returns the exact list of what changed: what change tracking would say.
 */
export function changeImage(path: string, share: number): Range[] {
  const file = openSync(path, 'r+')
  try {
    const blocks = Math.floor(fstatSync(file).size / BLOCK)
    const random = seededRandom(`vcb-proxy changes ${blocks} ${share}`)
    const log = accessLog(seededRandom('day 2 log'))
    const changed = new Set<number>()
    const target = Math.round(blocks * share)
    while (changed.size < target) {
      const first = random.below(100) < 85 ? random.below(Math.floor(blocks * 0.6)) : random.below(blocks)
      const last = Math.min(blocks, first + 1 + random.below(12))
      for (let block = first; block < last && changed.size < target; block++) changed.add(block)
    }
    const sorted = [...changed].sort((a, b) => a - b)
    for (const block of sorted) {
      const kind = random.below(4)
      const data = kind < 2 ? touched(file, random.below(blocks)) : kind === 2 ? log(BLOCK) : random.bytes(BLOCK)
      writeSync(file, data, 0, BLOCK, block * BLOCK)
    }
    return joined(sorted)
  } finally {
    closeSync(file)
  }
}

function touched(file: number, block: number): Buffer {
  const data = Buffer.alloc(BLOCK)
  readSync(file, data, 0, BLOCK, block * BLOCK)
  for (let index = 0; index < BLOCK; index++) data[index] = ((data[index] ?? 0) + 1) & 0xff
  return data
}

function joined(blocks: readonly number[]): Range[] {
  const ranges: { offset: number; length: number }[] = []
  for (const block of blocks) {
    const last = ranges.at(-1)
    if (last !== undefined && last.offset + last.length === block * BLOCK) last.length += BLOCK
    else ranges.push({ offset: block * BLOCK, length: BLOCK })
  }
  return ranges
}

/** `8G`, `512M` or bytes. */
export function parseSize(text: string): number {
  const match = /^(\d+)([GM]?)$/i.exec(text)
  if (match === null) throw new Error(`${text} is no size; write 8G or 512M.`)
  const unit = { g: GIB, m: MIB, '': 1 }[(match[2] ?? '').toLowerCase()] ?? 1
  return Math.floor((Number(match[1]) * unit) / BLOCK) * BLOCK
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ options: { size: { type: 'string', default: '8G' } }, allowPositionals: true })
  const path = positionals[0]
  if (path === undefined) throw new Error('Usage: node bench/image.ts PATH [--size 8G]')
  const ranges = makeImage(path, parseSize(values.size))
  const bytes = ranges.reduce((sum, range) => sum + range.length, 0)
  console.log(`${path}: ${Math.round(bytes / MIB)} MiB allocated in ${ranges.length} runs`)
}
