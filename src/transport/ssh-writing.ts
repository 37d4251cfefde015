import {
  type Abortable,
  AgentError,
  type BlockSink,
  type Clock,
  isAgentError,
  SECTOR,
  throwIfAborted,
  toAgentError,
  type Verdict,
} from '../core/index.ts'
import { type DescriptorExtent, openChain } from '../disk/index.ts'
import { openRemoteFiles, type RemoteFiles, type WritableRemoteFile } from '../ssh/index.ts'
import { parseDisks, retrieveOne, vmMoRef, type Vsphere } from '../vsphere/index.ts'
import { resolveReference } from './datastore-path.ts'
import { type RemotePart, remoteSink } from './remote-sink.ts'
import { hostOf, hostPath, remoteDiskFiles, type SshOptions } from './ssh-files.ts'
import type { DiskWriting, TargetDisk } from './transport.ts'
import { hasFile, inClear, verifyDisk } from './verify-disk.ts'

/**
 * Writes the flat files of a new disk of a VM that is off, through python3 of the host that has the VM. Wants the files for itself: the host refuses
 * while anything else has them open. With nothing but dd it cannot be done.
 */
export function sshWriting(options: SshOptions): DiskWriting {
  const opened = async (target: TargetDisk, abort?: Abortable): Promise<BlockSink> => {
    throwIfAborted(abort)
    for (const kind of [hasFile(target.disk), inClear(target.config)]) if (!kind.ok) throw refused('CONFIG', target, kind.reason)
    await requireAtRest(target, options.vsphere, abort)
    await using stack = new AsyncDisposableStack()
    const connection = await options.hosts.connect(hostOf(options, target.config).name, abort)
    const files = stack.use(await openRemoteFiles(connection, abort))
    const parts = await partsOf(files, target, connection.deps.clock, abort)
    const held = stack.move()
    return remoteSink(target.disk.fileName, parts, { [Symbol.asyncDispose]: async () => held[Symbol.asyncDispose]() })
  }
  return {
    async probe(target: TargetDisk, abort?: Abortable): Promise<Verdict> {
      try {
        const sink = await opened(target, abort)
        await sink[Symbol.asyncDispose]()
        return { ok: true, note: `files of ${hostOf(options, target.config).name} through its shell, written by python3` }
      } catch (error) {
        const shown = toAgentError(error)
        if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
        return { ok: false, reason: shown.message }
      }
    },
    open: opened,
  }
}

const refused = (code: 'CONFIG' | 'CONFLICT', { disk }: TargetDisk, reason: string): AgentError =>
  new AgentError(code, `${reason}.`, { subject: disk.label, retry: 'never', next: 'Restore another way, or to another place.' })

/** By what is known, and where vSphere can be asked by what is so now: nothing on the host keeps a file below a snapshot from being written to. */
async function requireAtRest(target: TargetDisk, vsphere: Vsphere | undefined, options?: Abortable): Promise<void> {
  const { disk, config } = target
  const { name } = config.vm
  if (config.powerState !== 'poweredOff') throw refused('CONFLICT', target, `${name} is not powered off`)
  const below = `${disk.label} of ${name} stands on a snapshot`
  if (config.snapshotCount > 0 || disk.chain.length > 1) throw refused('CONFLICT', target, below)
  if (vsphere === undefined) return
  const paths = ['runtime.powerState', 'config.hardware.device']
  const { props } = await retrieveOne(vsphere, vmMoRef(config.vm), paths, { ...options, subject: name })
  if (props.get('runtime.powerState')?.text !== 'poweredOff') throw refused('CONFLICT', target, `${name} is not powered off`)
  const now = parseDisks(props.get('config.hardware.device')?.items() ?? []).find(({ key }) => key === disk.key)
  if (now?.fileName !== disk.fileName || now.chain.length > 1) throw refused('CONFLICT', target, below)
}

/** Patience for a program of ours that was ended a moment ago and still has the file. ms */
const HELD_MS = 2000
const HELD_PAUSE_MS = 100

async function forItself<T>(open: () => Promise<T>, clock: Clock, options?: Abortable): Promise<T> {
  for (const until = clock.monotonicMs() + HELD_MS; ; ) {
    try {
      return await open()
    } catch (error) {
      if (!isAgentError(error, 'CONFLICT') || clock.monotonicMs() >= until) throw error
      await clock.sleep(HELD_PAUSE_MS, options)
    }
  }
}

/** The flat files of the disk, proven to be the disk vSphere describes before any is opened for writing. */
async function partsOf(
  files: RemoteFiles,
  { disk, config }: TargetDisk,
  clock: Clock,
  options?: Abortable,
): Promise<readonly RemotePart[]> {
  const openToWrite = files.openToWrite?.bind(files)
  if (openToWrite === undefined) {
    throw new AgentError('UNAVAILABLE', `Nothing on the host can write ${disk.fileName}: ${files.how.reason}`, {
      subject: disk.fileName,
      retry: 'never',
      next: 'Restore another way.',
    })
  }
  await using chain = await openChain(disk.fileName, remoteDiskFiles(files, config), options)
  verifyDisk(chain, disk, (location) => location)
  const [link] = chain.links
  const parts: RemotePart[] = []
  const open = new Map<string, WritableRemoteFile>()
  let offset = 0
  for (const extent of link?.descriptor.extents ?? []) {
    const path = hostPath(resolveReference(flatFile(extent, disk.fileName), link?.location, config.datastores), config)
    const file = open.get(path) ?? (await forItself(() => openToWrite(path, options), clock, options))
    open.set(path, file)
    const [length, start] = [extent.sectors * SECTOR, (extent.offset ?? 0) * SECTOR]
    if (file.size < start + length) {
      throw new AgentError('INTEGRITY', `${path} has ${file.size} bytes, its descriptor gives it ${start + length}.`, { subject: path })
    }
    parts.push({ file, offset, length, start })
    offset += length
  }
  return parts
}

function flatFile(extent: DescriptorExtent, name: string): string {
  if ((extent.type === 'VMFS' || extent.type === 'FLAT') && extent.access === 'RW' && extent.file !== undefined) return extent.file
  throw new AgentError('UNAVAILABLE', `${name} has an extent of type ${extent.type} (${extent.access}), which is not written as it is.`, {
    subject: name,
    retry: 'never',
    next: 'Restore another way.',
  })
}
