import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Whether this process can make loop devices. */
export function loopsWork(): boolean {
  if (process.getuid?.() !== 0) return false
  try {
    accessSync('/dev/loop-control', constants.R_OK | constants.W_OK)
    return ['/usr/sbin/losetup', '/sbin/losetup'].some((path) => existsSync(path))
  } catch {
    // No such device here: plain files do as well.
    return false
  }
}

/** Makes a loop device of a file; its node. */
export async function attachLoop(path: string): Promise<string> {
  const { stdout } = await run('losetup', ['--find', '--show', path])
  return stdout.trim()
}

/** Ends the loop devices of a file, whoever made them: those that a killed lab left too. Others of the machine are not touched. */
export async function detachLoops(path: string): Promise<void> {
  for (const node of loopsOf(path)) {
    try {
      await run('losetup', ['--detach', node])
    } catch (error) {
      if (loopsOf(path).includes(node)) throw error
    }
  }
}

/** Nodes of the loop devices that stand on a file, also when it has been removed meanwhile. */
export function loopsOf(path: string): readonly string[] {
  return readdirSync('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .filter((name) => {
      try {
        const backing = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trim()
        return backing === path || backing === `${path} (deleted)`
      } catch {
        // Free, or ended meanwhile.
        return false
      }
    })
    .map((name) => `/dev/${name}`)
}
