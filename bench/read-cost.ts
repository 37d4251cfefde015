import { readdirSync, readFileSync } from 'node:fs'

/** The first bytes are not timed, on neither side: connections and compilers warm up. */
export const WARM_UP = 64 * 1024 * 1024

/** What reading cost the process that reads, and the one it reads from. */
export type ReadCost = {
  readonly bytes: number
  readonly seconds: number
  readonly reader: Effort
  /** Of a file: nobody's. */
  readonly server: Effort
}

/** What a process did meanwhile. */
export type Effort = {
  /** Seconds on a processor, all threads. */
  readonly cpu: number
  /** Seconds in which the busiest thread ran or was ready to and had to wait for a processor: all of the time, when its core is full, also on a machine that
   * does other work. */
  readonly busy: number
}

export const NO_EFFORT: Effort = Object.freeze({ cpu: 0, busy: 0 })

/** Starts the clock; the returned function stops it. `server` = pid; what it started counts too. */
export function startCost(server: number | undefined): (bytes: number) => ReadCost {
  const before = [threadsOf(process.pid), threadsOf(server)] as const
  const began = performance.now()
  return (bytes) => {
    const seconds = (performance.now() - began) / 1000
    return { bytes, seconds, reader: effort(before[0], threadsOf(process.pid)), server: effort(before[1], threadsOf(server)) }
  }
}

type Threads = ReadonlyMap<string, { readonly ran: number; readonly waited: number }>

/** Nanoseconds each thread has run and waited so far (proc(5) schedstat). */
function threadsOf(pid: number | undefined): Threads {
  const threads = new Map<string, { readonly ran: number; readonly waited: number }>()
  if (pid === undefined) return threads
  for (const each of withChildren(pid)) {
    try {
      for (const thread of readdirSync(`/proc/${each}/task`)) {
        const [ran = 0, waited = 0] = readFileSync(`/proc/${each}/task/${thread}/schedstat`, 'latin1').split(' ').map(Number)
        threads.set(thread, { ran, waited })
      }
    } catch (error) {
      // A child has ended while it was looked at.
      if (each === pid) throw error
    }
  }
  return threads
}

/** A process and all below it. */
function withChildren(pid: number): readonly number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = parentOf(name)
    children.set(parent, [...(children.get(parent) ?? []), Number(name)])
  }
  const found = [pid]
  for (let index = 0; index < found.length; index++) found.push(...(children.get(found[index] ?? 0) ?? []))
  return found
}

/** Field 4 of proc(5) stat; 0 for a process that has ended. */
function parentOf(pid: string): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '')
    return Number(fields.split(' ')[1])
  } catch {
    return 0
  }
}

function effort(before: Threads, after: Threads): Effort {
  let cpu = 0
  let busy = 0
  for (const [thread, { ran, waited }] of after) {
    const since = before.get(thread) ?? { ran: 0, waited: 0 }
    cpu += ran - since.ran
    busy = Math.max(busy, ran - since.ran + waited - since.waited)
  }
  return { cpu: cpu / 1e9, busy: busy / 1e9 }
}
