import {
  type Abortable,
  AgentError,
  type BlockSink,
  type BlockSource,
  type Clock,
  isAgentError,
  toAgentError,
  type Verdict,
} from '../core/index.ts'
import { type ChunkCompression, createNfcDisk, createNfcSink, dialNfc, type DiskInfo, NfcSession } from '../nfc/index.ts'
import { ticketToRead, ticketToWrite, type Vsphere, vmMoRef } from '../vsphere/index.ts'
import type { NfcLimits } from './nfc-limits.ts'
import { striped } from './striped-source.ts'
import { canBeWritten } from './target-disk.ts'
import type { SnapshotDisk, TargetDisk, Transport } from './transport.ts'
import { hasFile, sameUuid } from './verify-disk.ts'

export type NbdOptions = {
  /** `nbdssl` encrypts the disk's bytes on the wire, `nbd` only the ticket. */
  readonly name: 'nbd' | 'nbdssl'
  readonly clock: Clock
  readonly random: (size: number) => Uint8Array
  readonly limits: NfcLimits
  /** What is asked of the host for each chunk; `skipz` when absent: zeros stay home and it costs hardly anything. */
  readonly compression?: ChunkCompression | undefined
  /** Sessions per disk; 1 when absent. More are taken only while the limits have room. */
  readonly sessions?: number | undefined
}

/**
 * Reads the frozen files, and writes a restore's disks, through the NFC service of the host that runs the VM (TCP 902), by tickets of vCenter or of the host itself. The host
 * walks the chain of redo logs, so the files need not be readable any other way.
 */
export function nbdTransport(vsphere: Vsphere, options: NbdOptions): Transport {
  const { name } = options

  /** The disk, open, and proven to be the one vSphere speaks of; `held` closes it and gives back what it counts against. */
  const openSession = async (disk: TargetDisk, access: 'read' | 'write', abort?: Abortable): Promise<OpenSession> => {
    await using stack = new AsyncDisposableStack()
    const vm = vmMoRef(disk.config.vm)
    const asked = { ...abort, subject: disk.config.vm.name }
    const { key } = disk.disk
    const host = { type: 'HostSystem', value: disk.config.host.moref }
    const ticket = await (access === 'read' ? ticketToRead(vsphere, vm, asked) : ticketToWrite(vsphere, vm, { key, host }, asked))
    for (const tokens of options.limits.of(vsphere.host, ticket.host)) stack.use(await tokens.take(abort))
    const dial = { encrypted: name === 'nbdssl', clock: options.clock, random: options.random, signal: abort?.signal }
    const session = stack.use(await NfcSession.open(await dialNfc(ticket, dial), { host: ticket.host, clock: options.clock }))
    const info = await session.openDisk(disk.disk.fileName, access, abort)
    if (info.capacity !== disk.disk.capacityBytes) {
      throw notTheDisk(disk, `the host opened ${info.capacity} bytes, vSphere says ${disk.disk.capacityBytes}`)
    }
    const uuid = await session.descriptorValue('uuid', abort)
    if (!sameUuid(uuid, disk.disk.uuid)) throw notTheDisk(disk, `its uuid is ${uuid}, vSphere says ${disk.disk.uuid}`)
    return { session, info, held: stack.move() }
  }

  const openSource = async (disk: SnapshotDisk, abort?: Abortable): Promise<BlockSource> => {
    const { session, info, held } = await openSession(disk, 'read', abort)
    const source = createNfcDisk(session, info, options.compression ?? 'skipz')
    return {
      size: source.size,
      read: (offset, into, reading) => source.read(offset, into, reading),
      extents: (range, reading) => source.extents(range, reading),
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    }
  }

  const openSink = async (target: TargetDisk, abort?: Abortable): Promise<BlockSink> => {
    const fit = canBeWritten(target)
    if (!fit.ok) throw new AgentError('CONFLICT', `${fit.reason}.`, { subject: target.disk.label, retry: 'never' })
    const { session, info, held } = await openSession(target, 'write', abort)
    const sink = createNfcSink(session, info, { fresh: true, compression: options.compression ?? 'skipz' })
    return {
      size: sink.size,
      write: (offset, data, writing) => sink.write(offset, data, writing),
      zero: (range, writing) => sink.zero(range, writing),
      flush: (writing) => sink.flush(writing),
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    }
  }

  const tried = async (how: Verdict, open: () => Promise<AsyncDisposable>): Promise<Verdict> => {
    if (!how.ok) return how
    try {
      const opened = await open()
      await opened[Symbol.asyncDispose]()
      return { ok: true, note: `NFC of the host, asked for at ${vsphere.host}` }
    } catch (error) {
      const shown = toAgentError(error)
      if (shown.code === 'CANCELED' || shown.code === 'INTERNAL') throw error
      return { ok: false, reason: shown.message }
    }
  }

  const open = async (disk: SnapshotDisk, abort?: Abortable): Promise<BlockSource> => {
    await using stack = new AsyncDisposableStack()
    const first = stack.use(await openSource(disk, abort))
    const more: BlockSource[] = []
    for (let count = 1; count < (options.sessions ?? 1) && hasRoom(options.limits); count++) {
      try {
        more.push(stack.use(await openSource(disk, abort)))
      } catch (error) {
        // One session is enough; a host that has no memory for another says so.
        if (!isAgentError(error, 'UNAVAILABLE')) throw error
        vsphere.log.debug('no further NFC session', { disk: disk.disk.label, error: error.message })
        break
      }
    }
    stack.move()
    return striped([first, ...more])
  }

  return {
    name,
    handles: hasFile,
    probe: (disk: SnapshotDisk, abort?: Abortable) => tried(hasFile(disk.disk), () => openSource(disk, abort)),
    open,
    writing: {
      probe: (target: TargetDisk, abort?: Abortable) => tried(canBeWritten(target), () => openSink(target, abort)),
      open: openSink,
    },
  }
}

type OpenSession = { readonly session: NfcSession; readonly info: DiskInfo; readonly held: AsyncDisposableStack }

const hasRoom = (limits: NfcLimits): boolean => limits.all.every((tokens) => tokens.inUse < tokens.limit)

const notTheDisk = (disk: TargetDisk, what: string): AgentError =>
  new AgentError('INTEGRITY', `What NFC opened is not ${disk.disk.label} (${disk.disk.fileName}): ${what}.`, {
    subject: disk.disk.fileName,
    next: 'Run the command again; if it stays so, report it with the log.',
  })
