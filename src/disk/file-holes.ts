import { type Extent, nativeLibrary, type Range } from '../core/index.ts'

const SEEK_DATA = 3
const SEEK_HOLE = 4

type Seek = (fd: number, offset: bigint, whence: number) => bigint

/**
 * Lists where a file holds data and where holes, asking the file system (lseek SEEK_DATA/SEEK_HOLE), which Node's `fs` cannot do.
 * Undefined where this runtime or file system cannot tell; the caller then reads everything and loses only time.
 */
export function fileExtents(fd: number, range: Range): Generator<Extent> | undefined {
  const seek = lseek()
  // SEEK_HOLE from the start succeeds on every file system that knows the call, for there is a hole at the end.
  if (seek === undefined || range.length === 0 || seek(fd, 0n, SEEK_HOLE) < 0n) return undefined
  return walk(seek, fd, range)
}

function* walk(seek: Seek, fd: number, range: Range): Generator<Extent> {
  const end = range.offset + range.length
  let position = range.offset
  while (position < end) {
    const data = nextData(seek, fd, position, end)
    if (data > position) yield { offset: position, length: data - position, kind: 'zero' }
    if (data >= end) return
    const found = Number(seek(fd, BigInt(data), SEEK_HOLE))
    const hole = found > data ? Math.min(found, end) : end
    yield { offset: data, length: hole - data, kind: 'data' }
    position = hole
  }
}

function nextData(seek: Seek, fd: number, position: number, end: number): number {
  const found = seek(fd, BigInt(position), SEEK_DATA)
  if (found >= 0n) return Math.min(Number(found), end)
  // -1 is "only a hole from here on" (ENXIO) or a real error; only a hole answers SEEK_HOLE with its own position.
  return seek(fd, BigInt(position), SEEK_HOLE) === BigInt(position) ? end : position
}

let cached: Seek | undefined
let tried = false

/** libc's lseek, looked up once, at first use. Without it, reading holes as zeros is always right. */
function lseek(): Seek | undefined {
  if (!tried) {
    tried = true
    cached = process.platform === 'linux' ? loadSeek() : undefined
  }
  return cached
}

function loadSeek(): Seek | undefined {
  const library = nativeLibrary({ lseek: { arguments: ['i32', 'i64', 'i32'], return: 'i64' } })
  return library?.functions.lseek as Seek | undefined
}
