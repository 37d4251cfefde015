import { readdir, readFile } from 'node:fs/promises'
import { type Abortable, type Clock, isMissing, signalProcess } from '../core/index.ts'
import { MARK_VARIABLE } from './stage-program.ts'

const PAUSE_MS = 100
/** From SIGTERM to SIGKILL, and until nobody waits any more, ms. */
const GRACE_MS = 2000

/**
 * Waits for programs that a dead process of ours started with this mark, and what those started; after `limitMs` they are ended. None is success. The mark is a claim's
 * id, so it tells them from all others, whatever their pid. CANCELED.
 */
export async function endMarkedPrograms(
  mark: string,
  limitMs: number,
  { clock, signal }: Abortable & { readonly clock: Clock },
): Promise<void> {
  const until = clock.monotonicMs() + limitMs
  const told = new Set<number>()
  for (let pids = await marked(mark); pids.length > 0; pids = await marked(mark)) {
    const over = clock.monotonicMs() - until
    // One that not even SIGKILL ends is in the kernel, and ends when its call does.
    if (over > 2 * GRACE_MS) return
    for (const pid of pids) {
      if (over > GRACE_MS) await signalProcess(pid, 'SIGKILL')
      else if (over > 0 && !told.has(pid)) await signalProcess(pid, 'SIGTERM')
      if (over > 0) told.add(pid)
    }
    await clock.sleep(PAUSE_MS, { signal })
  }
}

async function marked(mark: string): Promise<readonly number[]> {
  const found: number[] = []
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry)
    if (Number.isInteger(pid) && pid !== process.pid && (await environmentOf(entry)).includes(`${MARK_VARIABLE}=${mark}`)) found.push(pid)
  }
  return found
}

/** proc(5), environ. Empty for a process that is gone, the kernel's, or somebody else's. */
async function environmentOf(pid: string): Promise<readonly string[]> {
  try {
    return (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (isMissing(error) || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM') return []
    throw error
  }
}
