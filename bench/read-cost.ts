/** The first bytes are not timed, on neither side: connections and compilers warm up. */
export const WARM_UP = 64 * 1024 * 1024

/** What reading cost the process that reads. */
export type ReadCost = {
  readonly bytes: number
  readonly seconds: number
  /** User and system time of the process with its threads. */
  readonly cpuSeconds: number
}

/** Starts the clock; the returned function stops it. */
export function startCost(): (bytes: number) => ReadCost {
  const began = performance.now()
  const cpu = process.cpuUsage()
  return (bytes) => {
    const { user, system } = process.cpuUsage(cpu)
    return { bytes, seconds: (performance.now() - began) / 1000, cpuSeconds: (user + system) / 1e6 }
  }
}
