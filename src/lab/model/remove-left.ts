import { readdirSync, rmdirSync, rmSync, statSync } from 'node:fs'

/** Removes local files, and directories when nothing else is in them. Idempotent: a start after a crash does it again. */
export function removeLeft(paths: readonly string[]): void {
  for (const path of paths) {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) rmSync(path, { force: true })
    else if (readdirSync(path).length === 0) rmdirSync(path)
  }
}
