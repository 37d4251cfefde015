import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { isZero, MIB } from '../../core/index.ts'

/** A frozen disk to be copied. */
export type ImageSource = {
  readonly size: number
  read(offset: number, into: Uint8Array): void
  allocated(): Iterable<{ readonly offset: number; readonly length: number }>
}

const PIECE = MIB
const BLOCK = 4096
const YIELD_EVERY = 16 * MIB

/**
 * Copies a disk into a raw image of its own: what holds no data, or nothing but zeros, stays a hole. Complete or not there: made beside its place and
 * renamed; one that is there already is kept, with what its guest wrote. Yields to other work between pieces.
 */
export async function copyImage(source: ImageSource, path: string): Promise<void> {
  if (existsSync(path)) return
  mkdirSync(dirname(path), { recursive: true })
  const beside = `${path}~`
  const fd = openSync(beside, 'w', 0o600)
  try {
    ftruncateSync(fd, source.size)
    const buffer = new Uint8Array(PIECE)
    let since = 0
    for (const area of source.allocated()) {
      const end = area.offset + area.length
      for (let at = area.offset; at < end; at += PIECE) {
        const piece = buffer.subarray(0, Math.min(PIECE, end - at))
        source.read(at, piece)
        writeData(fd, at, piece)
        since += piece.length
        if (since < YIELD_EVERY) continue
        since = 0
        await setImmediate()
      }
    }
  } finally {
    closeSync(fd)
  }
  renameSync(beside, path)
}

/** Runs of blocks that are not zero. */
function writeData(fd: number, offset: number, piece: Uint8Array): void {
  for (let at = 0; at < piece.length; ) {
    let end = at
    while (end < piece.length && !isZero(piece.subarray(end, end + BLOCK))) end = Math.min(end + BLOCK, piece.length)
    for (let done = at; done < end; ) done += writeSync(fd, piece, done, end - done, offset + done)
    at = end === at ? Math.min(at + BLOCK, piece.length) : end
  }
}
