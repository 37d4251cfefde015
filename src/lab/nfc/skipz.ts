import { isZero } from '../../core/index.ts'

const HEADER = 8
const RUN_HEADER = 8
const LOOK = 512
/** Fewer zeros between two runs than this cost less as data than as another run. */
const GAP = 16

/** Chunk length, zero, then the runs that are not zero: start, length, bytes. Undefined when that is not shorter than the data. */
export function encodeSkipz(data: Uint8Array): Buffer | undefined {
  const runs = runsOf(data)
  const size = runs.reduce((sum, run) => sum + RUN_HEADER + run.end - run.start, HEADER)
  if (size >= data.length) return undefined
  const out = Buffer.allocUnsafe(size)
  out.writeUInt32LE(data.length, 0)
  out.writeUInt32LE(0, 4)
  let to = HEADER
  for (const { start, end } of runs) {
    out.writeUInt32LE(start, to)
    out.writeUInt32LE(end - start, to + 4)
    out.set(data.subarray(start, end), to + RUN_HEADER)
    to += RUN_HEADER + end - start
  }
  return out
}

/** Looks block by block and trims the ends to the byte. */
function runsOf(data: Uint8Array): { start: number; end: number }[] {
  const runs: { start: number; end: number }[] = []
  for (let at = 0; at < data.length; at += LOOK) {
    const end = Math.min(data.length, at + LOOK)
    // One byte settles most blocks that hold data.
    if (data[at] === 0 && isZero(data.subarray(at, end))) continue
    let first = at
    while (data[first] === 0) first++
    let last = end
    while (data[last - 1] === 0) last--
    const before = runs.at(-1)
    if (before !== undefined && first - before.end < GAP) before.end = last
    else runs.push({ start: first, end: last })
  }
  return runs
}

/** Decodes into exactly `length` bytes; undefined for anything that is not skipz of that length with ascending runs inside it. */
export function decodeSkipz(tail: Buffer, length: number): Buffer | undefined {
  if (tail.length < HEADER || tail.readUInt32LE(0) !== length || tail.readUInt32LE(4) !== 0) return undefined
  const out = Buffer.alloc(length)
  let done = 0
  let at = HEADER
  while (at < tail.length) {
    if (at + RUN_HEADER > tail.length) return undefined
    const start = tail.readUInt32LE(at)
    const size = tail.readUInt32LE(at + 4)
    at += RUN_HEADER
    if (start < done || start + size > length || at + size > tail.length) return undefined
    out.set(tail.subarray(at, at + size), start)
    at += size
    done = start + size
  }
  return out
}
