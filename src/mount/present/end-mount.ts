import { type Abortable, AgentError, type Clock, runProgram } from '../../core/index.ts'
import { mountTable } from './mount-table.ts'

/** A busy mount is asked again for so long; then it is taken from the tree, and who has files open there gets errors. */
const GRACE_MS = 5000
const PAUSE_MS = 200
/** One call. A file system whose server is stopped could keep it for ever. */
const UMOUNT_MS = 10_000
const MOST_LAYERS = 16

export type MountPlace = { readonly path: string; readonly source: string }

/**
 * Unmounts what is mounted on `path` from `source`, dead FUSE mounts ("Transport endpoint is not connected") included, and nothing else. Not there is success.
 * Busy: again until the grace ends, then lazily, and a FUSE file system by force, which ends its connection. Errors: CONFLICT (something else lies on top of it),
 * UNAVAILABLE (the kernel refuses), CANCELED.
 */
export async function endMount({ path, source }: MountPlace, options: Abortable & { readonly clock: Clock }): Promise<void> {
  const { clock, signal } = options
  const until = clock.monotonicMs() + GRACE_MS
  let complaint = ''
  for (let layers = 0; layers < MOST_LAYERS; ) {
    const there = (await mountTable()).filter((mount) => mount.mountPoint === path)
    if (!there.some((mount) => mount.source === source)) return
    const top = there.at(-1)
    if (top?.source !== source) {
      throw new AgentError('CONFLICT', `On ${path} lies a mount of ${top?.source} that is not ours.`, {
        subject: path,
        next: `Unmount it, then run "vcb recover".`,
      })
    }
    const over = clock.monotonicMs() >= until
    // -i: no helper program; -c: the path is canonical, and is not to be looked at, which a dead FUSE mount refuses.
    const how = over ? ['-i', '-c', '-l', ...(top.type.startsWith('fuse') ? ['-f'] : [])] : ['-i', '-c']
    const ended = await runProgram('umount', [...how, path], { clock, patienceMs: UMOUNT_MS, signal })
    complaint = ended.complaint
    if (ended.exit === 0 || over) layers++
    else await clock.sleep(ended.late ? 0 : PAUSE_MS, { signal })
  }
  throw new AgentError('UNAVAILABLE', `${path} cannot be unmounted: ${complaint}`, {
    subject: path,
    next: 'Run "vcb recover" again later.',
  })
}
