import { readFileSync } from 'node:fs'

/** The first bytes are not timed, on neither side: connections and compilers warm up. */
export const WARM_UP = 64 * 1024 * 1024

/** What reading cost the process that reads, and the one it reads from. */
export type ReadCost = {
  readonly bytes: number
  readonly seconds: number
  /** User and system time of the process with its threads. */
  readonly cpuSeconds: number
  /** The same of the server's process; 0 where there is none. */
  readonly serverSeconds: number
}

/** The kernel counts in hundredths of a second, whatever its own tick. */
const TICKS = 100

/** Starts the clock; the returned function stops it. `server` = pid. */
export function startCost(server: number | undefined): (bytes: number) => ReadCost {
  const served = cpuOf(server)
  const began = performance.now()
  const cpu = process.cpuUsage()
  return (bytes) => {
    const seconds = (performance.now() - began) / 1000
    const { user, system } = process.cpuUsage(cpu)
    return { bytes, seconds, cpuSeconds: (user + system) / 1e6, serverSeconds: cpuOf(server) - served }
  }
}

/** User and system seconds so far of a process with its threads (fields 14 and 15 of proc(5) stat). */
function cpuOf(pid: number | undefined): number {
  if (pid === undefined) return 0
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}
