import { readdir, readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { type Abortable, type Clock, isMissing, signalProcess } from '../../core/index.ts'

const GRACE_MS = 3000
const PAUSE_MS = 50

/**
 * Waits for programs of these names with exactly this argument to end by themselves, and then ends them. None is success. The argument is a path or a word of ours, so
 * it tells them from all others, whatever their pid was when they were started.
 */
export async function endPrograms(
  names: readonly string[],
  argument: string,
  options: Abortable & { readonly clock: Clock },
): Promise<void> {
  const { clock, signal } = options
  const until = clock.monotonicMs() + GRACE_MS
  for (let pids = await programs(names, argument); pids.length > 0; pids = await programs(names, argument)) {
    if (clock.monotonicMs() > until) for (const pid of pids) await signalProcess(pid, 'SIGKILL')
    // One that not even that ends is in the kernel, and ends when its call does.
    if (clock.monotonicMs() > until + GRACE_MS) return
    await clock.sleep(PAUSE_MS, { signal })
  }
}

async function programs(names: readonly string[], argument: string): Promise<readonly number[]> {
  const found: number[] = []
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const [program = '', ...words] = await commandLine(entry)
    if (names.includes(basename(program)) && words.includes(argument)) found.push(pid)
  }
  return found
}

/** proc(5), cmdline. Empty for a process that is gone, or is the kernel's. */
async function commandLine(pid: string): Promise<readonly string[]> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')
  } catch (error) {
    if (isMissing(error) || (error instanceof Error && 'code' in error && (error.code === 'ESRCH' || error.code === 'EACCES'))) return []
    throw error
  }
}
