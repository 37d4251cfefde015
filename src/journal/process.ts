import { readFile } from 'node:fs/promises'
import { AgentError, isMissing } from '../core/index.ts'

/** A process for as long as it lives; another one with the same pid differs in boot or start time. */
export type ProcessIdentity = {
  readonly pid: number
  /** The kernel's random id of this boot. */
  readonly bootId: string
  /** Clock ticks from boot to the process's start. */
  readonly startTime: number
}

/** The operating system's processes, as far as ownership of jobs needs them. */
export interface Processes {
  self(): Promise<ProcessIdentity>
  /** False only when it is certain that the process is gone. */
  isAlive(process: ProcessIdentity): Promise<boolean>
}

/** Beside `Processes` because only who is given a pid asks. */
export interface ProcessLookup {
  /** A process as it is now; undefined when there is none with this pid. */
  identify(pid: number): Promise<ProcessIdentity | undefined>
}

export const sameProcess = (a: ProcessIdentity | undefined, b: ProcessIdentity | undefined): boolean =>
  a?.pid === b?.pid && a?.bootId === b?.bootId && a?.startTime === b?.startTime

/**
 * Linux through /proc: the boot id tells a reboot, the start time a reused pid, the state a zombie. All proxies that share one state file
 * must see each other's processes (one host, one pid namespace).
 */
export const systemProcesses: Processes & ProcessLookup = Object.freeze({
  self: async () => {
    const startTime = await startTimeOf(process.pid)
    if (startTime === undefined) {
      throw new AgentError('CONFIG', 'The file /proc/self/stat cannot be read.', { next: 'Run vcb on Linux with /proc mounted.' })
    }
    return { pid: process.pid, bootId: await bootId(), startTime }
  },
  identify: async (pid: number) => {
    const startTime = await startTimeOf(pid)
    return startTime === undefined ? undefined : { pid, bootId: await bootId(), startTime }
  },
  isAlive: async (other: ProcessIdentity) => other.bootId === (await bootId()) && (await startTimeOf(other.pid)) === other.startTime,
})

const bootId = async (): Promise<string> => (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()

/** Field 22 of /proc/PID/stat (proc(5)); undefined when there is no such process or it is dead and only waits for its parent. */
async function startTimeOf(pid: number): Promise<number | undefined> {
  let stat: string
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  } catch (error) {
    if (isMissing(error) || (error instanceof Error && 'code' in error && error.code === 'ESRCH')) return undefined
    throw error
  }
  // The command (field 2) is in parentheses and may itself hold blanks and parentheses.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return state === 'Z' || state === 'X' ? undefined : Number(fields[18])
}
