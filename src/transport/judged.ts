import { isAgentError, toAgentError, type Verdict } from '../core/index.ts'
import type { PresentDisk } from './transport.ts'
import { hasFile } from './verify-disk.ts'

/** The verdict on a disk that lies in files: what `look` finds is the note, what it throws the reason. CANCELED and INTERNAL pass. */
export async function judged({ disk }: PresentDisk, look: () => Promise<string>): Promise<Verdict> {
  const handled = hasFile(disk)
  if (!handled.ok) return handled
  try {
    return { ok: true, note: await look() }
  } catch (error) {
    const shown = toAgentError(error)
    if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
    return { ok: false, reason: shown.message }
  }
}

/**
 * `judged` for ways to the files themselves: a host holds those of a disk locked while its VM writes to them, so before the snapshot that says nothing
 * against it.
 */
export const judgedByFiles = (disk: PresentDisk, look: () => Promise<string>): Promise<Verdict> =>
  judged(disk, async () => {
    try {
      return await look()
    } catch (error) {
      if ('snapshot' in disk || !isAgentError(error, 'CONFLICT')) throw error
      return 'the host holds the file locked while the VM writes to it; whether it can be read is seen with the snapshot'
    }
  })
