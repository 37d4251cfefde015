import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { type Abortable, AgentError, type Clock, isMissing, runProgram } from '../../core/index.ts'

const SYSFS = '/sys/block'
const LOSETUP_MS = 30_000

/** A loop device over a whole file. */
export type LoopDevice = { readonly number: number; readonly file: string }

export const loopPath = (number: number): string => `/dev/loop${number}`

/** Makes a loop device over `file`, past the page cache: the file system above caches already. The kernel picks the number. Errors: CONFIG, UNAVAILABLE. */
export async function attachLoop(file: string, options: Abortable & { readonly clock: Clock }): Promise<LoopDevice> {
  const ended = await runProgram('losetup', ['--find', '--show', '--direct-io=on', file], { ...options, patienceMs: LOSETUP_MS })
  const number = Number(/^\/dev\/loop(\d+)\s*$/.exec(ended.output.toString('utf8'))?.[1] ?? Number.NaN)
  if (ended.exit === 0 && Number.isInteger(number)) return { number, file }
  throw new AgentError('CONFIG', `No loop device could be made over ${file}: ${ended.complaint}`, {
    subject: file,
    next: 'See "vcb doctor" for what this proxy can mount; it needs root and the loop driver.',
  })
}

/** The loop device over `file`, whoever made it: `file` holds a claim id, so only we can have. Undefined when there is none. */
export async function findLoop(file: string): Promise<LoopDevice | undefined> {
  for (const name of await readdir(SYSFS)) {
    const number = Number(/^loop(\d+)$/.exec(name)?.[1] ?? Number.NaN)
    if (Number.isInteger(number) && (await isOver(number, file))) return { number, file }
  }
  return undefined
}

/**
 * Gives a loop device back, if its number still is over this file, from its beginning. While something is mounted from it, the kernel does so when that is unmounted. Gone
 * already is success. Errors: UNAVAILABLE.
 */
export async function detachLoop({ number, file }: LoopDevice, options: Abortable & { readonly clock: Clock }): Promise<void> {
  if (!(await isOver(number, file))) return
  const ended = await runProgram('losetup', ['--detach', loopPath(number)], { ...options, patienceMs: LOSETUP_MS })
  if (ended.exit === 0 || !(await isOver(number, file))) return
  throw new AgentError('UNAVAILABLE', `${loopPath(number)} over ${file} could not be given back: ${ended.complaint}`, { subject: file })
}

/** Once the file system that `file` lies on was unmounted lazily, the kernel knows only what follows its mount point: the name. */
async function isOver(number: number, file: string): Promise<boolean> {
  const backing = await attribute(number, 'backing_file')
  return (backing === file || backing === `/${basename(file)}`) && (await attribute(number, 'offset')) === '0'
}

async function attribute(number: number, name: string): Promise<string | undefined> {
  try {
    return (await readFile(join(SYSFS, `loop${number}`, 'loop', name), 'utf8')).trim()
  } catch (error) {
    // Detached: no such directory, or none any more while it was being read.
    if (isMissing(error) || (error instanceof Error && 'code' in error && (error.code === 'ENXIO' || error.code === 'ENODEV')))
      return undefined
    throw error
  }
}
