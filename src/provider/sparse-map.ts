import { AgentError, MIB, type Range, rangeEnd, SECTOR } from '../core/index.ts'

/** Largest map accepted when reading, bytes. */
export const MAX_SPARSE_MAP_BYTES = 16 * MIB

/** The map in front of a GNU sparse 1.0 entry's data, padded to whole tar blocks (docs/formats/tar-archive.md). */
export function encodeSparseMap(segments: readonly Range[], realSize: number): Buffer {
  const last = segments.at(-1)
  // GNU tar marks a hole at the end by an empty segment at the real size.
  const listed = last === undefined || rangeEnd(last) < realSize ? [...segments, { offset: realSize, length: 0 }] : segments
  const text = `${listed.length}\n${listed.map(({ offset, length }) => `${offset}\n${length}\n`).join('')}`
  const map = Buffer.alloc(Math.ceil(text.length / SECTOR) * SECTOR)
  map.write(text, 'latin1')
  return map
}

/**
 * Reads a map from the beginning of an entry's data. `head` must hold it whole (or the first `MAX_SPARSE_MAP_BYTES`).
 * INTEGRITY when it is out of order, overlapping, outside `realSize` or does not add up to `entrySize`.
 */
export function parseSparseMap(
  head: Buffer,
  realSize: number,
  entrySize: number,
  name: string,
): { readonly segments: readonly Range[]; readonly mapBytes: number } {
  const refuse = (what: string): never => {
    throw new AgentError('INTEGRITY', `The sparse map of ${name} ${what}.`, { subject: name })
  }
  let at = 0
  const next = (): number => {
    const end = head.indexOf(0x0a, at)
    const digits = end < 0 ? '' : head.toString('latin1', at, end)
    if (!/^\d{1,16}$/u.test(digits) || Number(digits) > Number.MAX_SAFE_INTEGER) refuse('is not a list of numbers')
    at = end + 1
    return Number(digits)
  }
  const count = next()
  const segments: Range[] = []
  let decided = 0
  let data = 0
  for (let index = 0; index < count; index++) {
    const offset = next()
    const length = next()
    if (offset < decided || offset + length > realSize) refuse('is out of order or leads out of the file')
    decided = offset + length
    data += length
    if (length > 0) segments.push({ offset, length })
  }
  const mapBytes = Math.ceil(at / SECTOR) * SECTOR
  if (mapBytes + data !== entrySize) refuse(`stands for ${mapBytes + data} bytes of data; the entry has ${entrySize}`)
  return { segments, mapBytes }
}
