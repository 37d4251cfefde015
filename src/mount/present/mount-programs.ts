import { type Abortable, AgentError, type Clock, runProgram, startProgram } from '../../core/index.ts'
import { type MountKind, SAFE } from './mount-kind.ts'
import { mountedFrom } from './mount-table.ts'

/** The replay of a large journal takes its time. */
const MOUNT_MS = 15 * 60_000
const READY_PAUSE_MS = 20

type Options = Abortable & { readonly clock: Clock }
type Place = { readonly source: string; readonly directory: string }

/** `mount -t TYPE -o OPTIONS SOURCE DIRECTORY`. Errors: INTEGRITY (the kernel cannot make sense of it), CONFIG. */
export async function mountByKernel(
  kind: MountKind & { readonly by: 'kernel' },
  { source, directory }: Place,
  options: Options,
): Promise<void> {
  const flags = [...SAFE, ...kind.options].join(',')
  const ended = await runProgram('mount', ['-i', '-t', kind.type, '-o', flags, source, directory], { ...options, patienceMs: MOUNT_MS })
  if (ended.exit !== 0) throw cannot(kind.type, directory, ended.complaint)
}

/** One more place for what is mounted on `source`, with the same options. */
export async function mountAgainBy({ source, directory }: Place, options: Options): Promise<void> {
  const ended = await runProgram('mount', ['-i', '--bind', source, directory], { ...options, patienceMs: MOUNT_MS })
  if (ended.exit !== 0) throw cannot('bind', directory, ended.complaint)
}

/** Starts a FUSE program over an image file, which then is its source in the mount table, and waits until it has mounted it. It ends when it is unmounted. Gives what resolves when it has ended. */
export async function mountByProgram(
  kind: MountKind & { readonly by: 'program' },
  { source, directory }: Place,
  options: Options,
): Promise<{ readonly ended: Promise<unknown> }> {
  const { clock, signal } = options
  const flags = [...SAFE, ...kind.options].join(',')
  const running = await startProgram(kind.program, ['-o', flags, source, directory], { clock })
  running.output.resume()
  let ended = false
  const end = running.ended.then(() => (ended = true))
  const until = clock.monotonicMs() + MOUNT_MS
  while ((await mountedFrom(directory, source)) === undefined) {
    if (ended || clock.monotonicMs() > until || signal?.aborted === true) {
      await running[Symbol.asyncDispose]()
      throw cannot(kind.program, directory, running.complaint())
    }
    await Promise.race([clock.sleep(READY_PAUSE_MS), end])
  }
  return { ended: end }
}

const cannot = (type: string, directory: string, complaint: string): AgentError =>
  new AgentError('INTEGRITY', `The file system (${type}) for ${directory} cannot be mounted: ${complaint}`, {
    subject: directory,
    next: 'Look at the kernel log; when the file system is damaged, take its disk as a raw file to a repair tool.',
  })
