import { type Mark, parseMark } from '../core/index.ts'

/** The file in a restore's datastore directory that says whose it is, until the VM is the user's. */
export const RESTORE_MARKER = 'vcb-proxy-restore.json'

/** Nothing of ours is longer. Bytes. */
export const RESTORE_MARKER_LIMIT = 4096

export const restoreMarker = (mark: string): Uint8Array => Buffer.from(`${JSON.stringify({ mark })}\n`)

/** The mark in a marker file; undefined when it is not one of ours, whatever else it is. */
export function parseRestoreMarker(bytes: Uint8Array): Mark | undefined {
  if (bytes.length > RESTORE_MARKER_LIMIT) return undefined
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
  if (typeof parsed !== 'object' || parsed === null || !('mark' in parsed) || typeof parsed.mark !== 'string') return undefined
  // Only what was written byte by byte as we write it: an edited copy is somebody else's.
  return text === Buffer.from(restoreMarker(parsed.mark)).toString('utf8') ? parseMark('directory', parsed.mark) : undefined
}
