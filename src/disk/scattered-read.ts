import { type Abortable, throwIfAborted } from '../core/index.ts'
import type { ByteSource } from './byte-source.ts'

/** Bytes wanted at `position` of a file. */
export type Piece = { readonly position: number; readonly into: Uint8Array }

/** Gaps up to this are read along and dropped: one larger read is cheaper than two, on disks and over HTTP. */
const GAP = 32 * 1024
const WINDOW = 1024 * 1024
const AT_ONCE = 4

/** Reads many pieces with few reads: neighbours share a window of at most 1 MiB, four windows are under way at once. */
export async function readScattered(bytes: ByteSource, pieces: readonly Piece[], options?: Abortable): Promise<void> {
  if (pieces.length === 0) return
  const windows = intoWindows(pieces)
  let next = 0
  const worker = async (): Promise<void> => {
    for (;;) {
      const window = windows[next++]
      if (window === undefined) return
      throwIfAborted(options)
      await readWindow(bytes, window, options)
    }
  }
  await allDone(Array.from({ length: Math.min(AT_ONCE, windows.length) }, worker))
}

/** Like Promise.all, but waits for the others when one fails: nobody may write into the caller's buffer after the call ended. */
export async function allDone(work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason
}

function intoWindows(pieces: readonly Piece[]): Piece[][] {
  const sorted = pieces.length > 1 ? [...pieces].sort((a, b) => a.position - b.position) : pieces
  const windows: Piece[][] = []
  let current: Piece[] = []
  let start = 0
  let end = 0
  for (const piece of sorted) {
    const pieceEnd = piece.position + piece.into.length
    if (current.length > 0 && piece.position <= end + GAP && pieceEnd - start <= WINDOW) {
      current.push(piece)
      end = Math.max(end, pieceEnd)
    } else {
      if (current.length > 0) windows.push(current)
      current = [piece]
      start = piece.position
      end = pieceEnd
    }
  }
  windows.push(current)
  return windows
}

async function readWindow(bytes: ByteSource, window: readonly Piece[], options?: Abortable): Promise<void> {
  const first = window[0]
  if (first === undefined) return
  if (window.length === 1) return bytes.read(first.position, first.into, options)
  const end = window.reduce((most, piece) => Math.max(most, piece.position + piece.into.length), 0)
  const buffer = Buffer.allocUnsafe(end - first.position)
  await bytes.read(first.position, buffer, options)
  for (const { position, into } of window) into.set(buffer.subarray(position - first.position, position - first.position + into.length))
}
