import { open, rename, unlink, mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fromErrno } from './errors.ts'

/**
 * Writes a whole file so that after a crash at any moment the old or the new content is there, never a part: temporary file beside it,
 * fsync, rename, fsync of the directory. `mode` defaults to 0600. Errors: CAPACITY, CONFIG.
 */
export async function writeFileAtomic(path: string, data: Uint8Array | string, mode = 0o600): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    await using file = await open(temporary, 'w', mode)
    await file.writeFile(data)
    await file.sync()
  } catch (error) {
    await unlink(temporary).catch((left: unknown) => {
      if (!isMissing(left)) throw left
    })
    throw fromErrno(error, path) ?? error
  }
  await rename(temporary, path)
  await syncDirectory(dirname(path))
}

/** Makes names created or removed in `path` durable. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r')
  await directory.sync()
}

/** Creates a directory and its parents, private to the user. */
export async function ensureDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}

/** True for ENOENT. */
export const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT'
