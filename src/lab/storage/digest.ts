import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { type Abortable, GIB, isZero, MIB, throwIfAborted, writeU64 } from '../../core/index.ts'
import { type DiskView, openRawView } from './disk-view.ts'

export type ImageDigest = { readonly kind: 'sha256' | 'content'; readonly hex: string }
export type DigestOptions = Abortable & { readonly kind?: ImageDigest['kind'] | undefined }

const BLOCK = MIB
/** Larger disks are told by content: hashing their zeros alone would take minutes. */
const PLAIN_LIMIT = 64 * GIB
const YIELD_EVERY = 16 * MIB

/**
 * Digest of a view. Up to 64 GiB `sha256` of the raw image; beyond it `content`: SHA-256 over (u64 LE offset, bytes) of each 1 MiB block
 * that is not all zeros, the last one clipped. Yields to other work between pieces; a view that changes meanwhile gives neither state.
 */
export async function digestOf(view: DiskView, options: DigestOptions = {}): Promise<ImageDigest> {
  const kind = options.kind ?? (view.size <= PLAIN_LIMIT ? 'sha256' : 'content')
  const hash = createHash('sha256')
  const buffer = new Uint8Array(BLOCK)
  let since = 0
  const rest = async (bytes: number): Promise<void> => {
    since += bytes
    if (since < YIELD_EVERY) return
    since = 0
    await setImmediate()
    throwIfAborted(options)
  }
  const zeros = async (from: number, to: number): Promise<void> => {
    if (kind === 'content') return
    for (let at = from; at < to; at += BLOCK) {
      hash.update(ZEROS.subarray(0, Math.min(BLOCK, to - at)))
      await rest(BLOCK)
    }
  }
  throwIfAborted(options)
  let position = 0
  for (const area of view.allocated()) {
    // Whole blocks, so that both kinds see the same pieces; an area in a block already hashed is skipped.
    const start = Math.max(position, Math.floor(area.offset / BLOCK) * BLOCK)
    const end = Math.min(view.size, Math.ceil((area.offset + area.length) / BLOCK) * BLOCK)
    await zeros(position, start)
    for (let at = start; at < end; at += BLOCK) {
      const piece = buffer.subarray(0, Math.min(BLOCK, end - at))
      view.read(at, piece)
      const skipped = kind === 'content' && isZero(piece)
      if (kind === 'content' && !skipped) hash.update(offsetBytes(at))
      if (!skipped) hash.update(piece)
      await rest(BLOCK)
    }
    position = Math.max(position, end)
  }
  await zeros(position, view.size)
  return { kind, hex: hash.digest('hex') }
}

/** The same of a raw image file, for restored disks. */
export async function digestOfFile(path: string, options: DigestOptions = {}): Promise<ImageDigest> {
  using view = openRawView(path)
  return await digestOf(view, options)
}

const ZEROS = new Uint8Array(BLOCK)

function offsetBytes(offset: number): Uint8Array {
  const bytes = new Uint8Array(8)
  writeU64(bytes, 0, offset)
  return bytes
}
