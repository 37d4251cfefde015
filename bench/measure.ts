import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** What one child process cost. */
export type Cost = {
  readonly wallSeconds: number
  /** User and system time of the child with all its threads and children. */
  readonly cpuSeconds: number
  /** Peak resident memory of the child. */
  readonly rssBytes: number
}

/** The kernel counts in hundredths of a second, whatever its own tick. */
const TICKS = 100

/** Runs a program to its end and tells what it cost. Programs are measured one at a time: CPU is told apart by the parent's own account. */
export async function measure(
  command: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Cost & { readonly output: string }> {
  const before = childrenTicks()
  const began = performance.now()
  const child = spawn(command, args, { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let errors = ''
  let rssBytes = 0
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
  const sampler = setInterval(() => {
    rssBytes = Math.max(rssBytes, peakOf(child.pid))
  }, 20)
  const status = await new Promise<number | string | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(code ?? signal))
  }).finally(() => clearInterval(sampler))
  const wallSeconds = (performance.now() - began) / 1000
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${errors}${output}`)
  return { wallSeconds, cpuSeconds: (childrenTicks() - before) / TICKS, rssBytes, output }
}

/** User and system ticks of all children that have ended (fields 16 and 17 of proc(5) stat). */
function childrenTicks(): number {
  const fields = readFileSync('/proc/self/stat', 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')
  return Number(fields[13]) + Number(fields[14])
}

/** User and system seconds of a process so far, all its threads. */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

/** Highest resident memory so far; 0 once the process is gone. */
export function peakOf(pid: number | undefined): number {
  try {
    const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
    return Number(peak?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}
