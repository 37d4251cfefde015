import { readdir } from 'node:fs/promises'
import { AgentError, fromErrno, isMissing, openInput } from '../core/index.ts'

/** No attribute of sysfs that is read here is longer; a page of VPD has 64 KiB at most. Bytes. */
const LIMIT = 64 * 1024

/** Undefined when there is no such file, or the kernel has nothing to say in it. */
export async function bytesOf(path: string): Promise<Uint8Array | undefined> {
  try {
    await using handle = await openInput(path)
    const buffer = Buffer.alloc(LIMIT)
    return buffer.subarray(0, (await handle.read(buffer, 0, LIMIT, 0)).bytesRead)
  } catch (error) {
    if (isMissing(error) || isGone(error)) return undefined
    throw fromErrno(error, path) ?? error
  }
}

/** The same as text, without the line's end. */
export async function textOf(path: string): Promise<string | undefined> {
  const bytes = await bytesOf(path)
  return bytes === undefined ? undefined : Buffer.from(bytes).toString('utf8').trim()
}

/** Names in a directory; none when it is not there. */
export async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).toSorted()
  } catch (error) {
    if (isMissing(error) || isGone(error)) return []
    throw fromErrno(error, directory) ?? new AgentError('UNAVAILABLE', `${directory} cannot be read.`, { subject: directory, cause: error })
  }
}

/** What sysfs answers of a device that is going, or that has no such page. */
const isGone = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && ['ENODEV', 'ENXIO', 'ENOTDIR', 'EINVAL', 'EIO'].includes(String(error.code))
