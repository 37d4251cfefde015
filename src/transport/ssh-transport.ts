import { type Abortable, AgentError, isAgentError, type Verdict, type VmConfig } from '../core/index.ts'
import { type DiskChain, openChain, type Place } from '../disk/index.ts'
import { openRemoteFiles, type RemoteFiles, type RemotePiece } from '../ssh/index.ts'
import { chainDigests } from './chain-digests.ts'
import { judgedByFiles } from './judged.ts'
import { hostOf, hostPath, remoteDiskFiles, type SshOptions } from './ssh-files.ts'
import { sshWriting } from './ssh-writing.ts'
import type { OpenDisk, PresentDisk, Transport } from './transport.ts'
import { hasFile, inClear, verifyDisk } from './verify-disk.ts'

/**
 * Reads the frozen files through the shell of the host that runs the VM. For hosts whose API only shows, as with the free licence, and for files that
 * only the host itself can read. Zeros stay at home where the host has python3. Connects only to hosts that are configured.
 */
export function sshTransport(options: SshOptions): Transport {
  const openVerified = async (disk: PresentDisk, abort?: Abortable): Promise<{ source: OpenDisk; how: RemoteFiles['how'] }> => {
    const clear = inClear(disk.config)
    if (!clear.ok) throw new AgentError('CONFIG', `${clear.reason}.`, { next: 'Read it over nbdssl.' })
    await using stack = new AsyncDisposableStack()
    const connection = await options.hosts.connect(hostOf(options, disk.config).name, abort)
    const files = stack.use(await openRemoteFiles(connection, abort))
    const chain = stack.use(await openChain(disk.disk.fileName, remoteDiskFiles(files, disk.config), abort))
    verifyDisk(chain, disk.disk, (location) => location)
    const held = stack.move()
    return { source: owned(chain, held, digestsOn(files, chain, disk.config)), how: files.how }
  }
  const probe = (disk: PresentDisk, abort?: Abortable): Promise<Verdict> =>
    judgedByFiles(disk, async () => {
      const host = hostOf(options, disk.config)
      const { source, how } = await openVerified(disk, abort)
      await source[Symbol.asyncDispose]()
      const by = how.program === 'python3' ? 'python3' : `dd, because ${how.reason.replace(/\.$/, '')}`
      return `files of ${host.name} through its shell, read by ${by}`
    })
  return {
    name: 'ssh',
    handles: hasFile,
    probe,
    foresee: probe,
    open: async (disk, abort) => (await busyIsAway(openVerified(disk, abort))).source,
    writing: sshWriting(options),
  }
}

/**
 * A frozen file that the host has locked is one this way does not reach now: tried again, and then left to the next transport, as a connection that
 * broke is.
 */
async function busyIsAway<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!isAgentError(error, 'CONFLICT')) throw error
    throw new AgentError('UNAVAILABLE', error.message, { subject: error.subject, next: error.next, retry: 'now', cause: error })
  }
}

/** Digests of a chain's blocks, computed on the host that has its files; undefined where it has no program for that. */
function digestsOn(files: RemoteFiles, chain: DiskChain, config: VmConfig): OpenDisk['digests'] {
  const digest = files.digest?.bind(files)
  if (digest === undefined) return undefined
  const onHost = ({ file, offset, length }: Place): RemotePiece => ({
    path: file === undefined ? undefined : hostPath(file, config),
    offset,
    length,
  })
  return chainDigests(chain, (places, options) => digest(places.map(onHost), options))
}

/** The chain as it is, closed together with what it is read through. */
const owned = (chain: DiskChain, held: AsyncDisposable, digests: OpenDisk['digests']): OpenDisk => ({
  size: chain.size,
  read: (offset, into, options) => busyIsAway(chain.read(offset, into, options)),
  extents: (range, options) => chain.extents(range, options),
  digests,
  [Symbol.asyncDispose]: async () => held[Symbol.asyncDispose](),
})
