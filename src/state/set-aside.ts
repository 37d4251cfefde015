import { dirname } from 'node:path'
import { isThere, renameFile, syncDirectory } from '../core/index.ts'

/** The database and its companions. */
const PARTS = ['', '-wal', '-shm'] as const

/**
 * Gives a database that cannot be used any more another name, `state.sqlite.lost-20261122T221500Z`, with its companions; never deletes anything.
 * The new names. Nobody may have it open. A crash in between leaves a part behind its old name, which a second call takes.
 */
export async function setStateAside(path: string, now: Date): Promise<readonly string[]> {
  const stamp = `${path}.lost-${now.toISOString().replace(/[-:]|\.\d+/g, '')}`
  let base = stamp
  for (let count = 2; await anyThere(base); count++) base = `${stamp}-${count}`
  const moved: string[] = []
  // The companions first: a database without its log is still known as damaged, a log without its database is not known at all.
  for (const part of PARTS.toReversed()) {
    if (!(await isThere(`${path}${part}`))) continue
    await renameFile(`${path}${part}`, `${base}${part}`)
    moved.push(`${base}${part}`)
  }
  await syncDirectory(dirname(path))
  return moved.reverse()
}

/** True when the log of a database is gone although processes that died left its index: whatever was not yet in the main file is lost. */
export async function isLogLost(path: string): Promise<boolean> {
  // SQLite makes the log before its index, and removes the index first. Twice, because a process may open and close it meanwhile.
  for (let look = 0; look < 2; look++) {
    if ((await isThere(`${path}-wal`)) || !(await isThere(`${path}-shm`))) return false
  }
  return true
}

async function anyThere(base: string): Promise<boolean> {
  for (const part of PARTS) if (await isThere(`${base}${part}`)) return true
  return false
}
