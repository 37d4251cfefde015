import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import {
  AgentError,
  type ClaimId,
  fromErrno,
  isMissing,
  makeDirectory,
  removeDirectory,
  removeFile,
  removeTree,
  renameFile,
  syncDirectory,
  writeFileWhole,
} from '../core/index.ts'
import type { Claims, Held, MountDirectory } from '../journal/index.ts'

/** Beside exported files, all that a lease makes in its directory. */
const SHOWN = ['disks', 'letters', 'digits', 'root'] as const
/** Ours alone: whose lease it is, the socket, and last of all the manifest. */
const OWN = '.vcb'
const LEASE = 'lease'

/** The one name of a mount directory, whichever way it is written: its parent without symbolic links. NOT_FOUND when that does not exist. */
export async function mountDirectoryPath(directory: string): Promise<string> {
  const path = resolve(directory)
  try {
    return await realpath(path)
  } catch (error) {
    if (!isMissing(error)) throw notADirectory(error, path)
  }
  try {
    return join(await realpath(dirname(path)), basename(path))
  } catch (error) {
    if (!isMissing(error)) throw notADirectory(error, path)
    throw new AgentError('NOT_FOUND', `The directory ${dirname(path)}, in which ${basename(path)} was to be made, does not exist.`, {
      subject: path,
      next: 'Make it, or name another directory.',
      cause: error,
    })
  }
}

/**
 * Takes an empty or a new directory for a lease: `.vcb` in it says whose it is. Of several leases that want the same one, one gets it. Errors: CONFLICT
 * (not empty, another lease's, no directory), NOT_FOUND (no parent), CONFIG (no access).
 */
export async function takeMountDirectory(claims: Claims, directory: string): Promise<Held<'mountDirectory'>> {
  const path = await mountDirectoryPath(directory)
  const made = !(await isEmptyDirectory(path))
  return claims.take('mountDirectory', { path, made }, [], async (claim) => {
    try {
      if (made) await makeDirectory(path)
      await makeDirectory(halfMade(path, claim))
      await writeFileWhole(join(halfMade(path, claim), LEASE), claim)
      await renameFile(halfMade(path, claim), join(path, OWN))
      await syncDirectory(path)
    } catch (error) {
      if (error instanceof Error && 'code' in error && ['ENOTEMPTY', 'EEXIST'].includes(String(error.code))) throw notEmpty(path)
      throw fromErrno(error, path) ?? error
    }
    // Another lease that is about to want it will find `.vcb`.
    if ((await readdir(path)).some((name) => name !== OWN && !/^\.vcb-.*\.partial$/.test(name))) throw notEmpty(path)
    return { path, made, files: [], disks: [], ready: false }
  })
}

/** Where what is ours alone goes: the socket, the manifest. */
export const ownDirectory = (path: string): string => join(path, OWN)

/** Names what is about to be exported, so that it is removed with the lease, or tells that all of it is there. */
export async function recordShown(
  claims: Claims,
  held: Held<'mountDirectory'>,
  shown: Partial<Pick<MountDirectory, 'files' | 'disks' | 'ready'>>,
): Promise<Held<'mountDirectory'>> {
  const ref = { ...held.ref, ...shown }
  await claims.update<'mountDirectory'>(held.id, ref)
  return { ...held, ref }
}

/** The directory of a claim that was never confirmed; undefined when nothing of it is there. */
export async function findMountDirectory(
  { path, made }: { readonly path: string; readonly made: boolean },
  claim: ClaimId,
): Promise<MountDirectory | undefined> {
  const names = await namesIn(path)
  if (names === undefined) return undefined
  const ours = (made && names.length === 0) || names.includes(basename(halfMade(path, claim))) || (await leaseOf(path)) === claim
  return ours ? { path, made, files: [], disks: [], ready: false } : undefined
}

/**
 * Removes what the lease made, and the directory when it made that too and nothing of others is in it. What others put there stays. CONFLICT while something is
 * mounted below it, because removing would go into that.
 */
export async function removeMountDirectory({ path, made, files, disks }: MountDirectory, claim: ClaimId): Promise<void> {
  const mounted = await mountedBelow(path)
  if (mounted !== undefined) {
    throw new AgentError('CONFLICT', `Something is still mounted on ${mounted}, so the lease's directory is not removed.`, {
      subject: path,
      next: 'Unmount it, then run "vcb recover".',
    })
  }
  await removeTree(halfMade(path, claim))
  if ((await leaseOf(path)) === claim) {
    // First, so that what is left in between is never taken for the whole.
    await removeFile(join(path, OWN, 'manifest.json'))
    for (const name of SHOWN) await removeTree(join(path, name))
    for (const name of (await namesIn(path)) ?? []) if (files.includes(name) || isOfDisk(name, disks)) await removeFile(join(path, name))
    // Under the claim's name, so that what a crash leaves of it is known for ours without the file that says so.
    await renameFile(join(path, OWN), halfMade(path, claim))
    await removeTree(halfMade(path, claim))
  }
  if (!made) return
  try {
    await removeDirectory(path)
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'ENOTEMPTY') throw error
  }
}

const halfMade = (path: string, claim: ClaimId): string => join(path, `${OWN}-${claim}.partial`)

/** `NAME.vmdk`, `NAME-flat.vmdk`, `NAME-s001.vmdk`, and the same while they are written. */
const isOfDisk = (name: string, disks: readonly string[]): boolean =>
  disks.some((disk) => name.startsWith(disk) && /^(?:-flat|-s\d{3,})?\.vmdk(?:\.\d+\.tmp)?$/.test(name.slice(disk.length)))

/** True for an empty directory, false for none. Throws for anything else. */
async function isEmptyDirectory(path: string): Promise<boolean> {
  try {
    if (!(await stat(path)).isDirectory()) throw noDirectory(path)
    if ((await readdir(path)).length > 0) throw notEmpty(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw fromErrno(error, path) ?? error
  }
}

const noDirectory = (path: string): AgentError =>
  new AgentError('CONFLICT', `${path} exists and is not a directory.`, { subject: path, retry: 'never', next: 'Name another directory.' })

/** A name of the path is a file's. */
const notADirectory = (error: unknown, path: string): unknown =>
  error instanceof Error && 'code' in error && error.code === 'ENOTDIR' ? noDirectory(dirname(path)) : (fromErrno(error, path) ?? error)

const notEmpty = (path: string): AgentError =>
  new AgentError('CONFLICT', `The directory ${path} is not empty.`, {
    subject: path,
    retry: 'never',
    next: 'Name another directory, empty this one, or end the lease that is shown there; "vcb leases" lists them.',
  })

async function namesIn(path: string): Promise<readonly string[] | undefined> {
  try {
    return await readdir(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw fromErrno(error, path) ?? error
  }
}

async function leaseOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(join(path, OWN, LEASE), 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw fromErrno(error, path) ?? error
  }
}

/** A mount point inside a directory, of this process's mount namespace (proc(5), mountinfo: field 5, blanks as `\040`). */
async function mountedBelow(path: string): Promise<string | undefined> {
  for (const line of (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')) {
    const point = (line.split(' ')[4] ?? '').replaceAll(/\\([0-7]{3})/g, (_all, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    )
    if (point.startsWith(`${path}/`)) return point
  }
  return undefined
}
