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
import {
  type ChunkCompression,
  createNfcDisk,
  createNfcSink,
  type DiskInfo,
  type NfcSession,
  type NfcTicket,
  openNfcSession,
} from '../nfc/index.ts'
import { ticketToRead, ticketToWrite, type Vsphere, vmMoRef } from '../vsphere/index.ts'
import { judged } from './judged.ts'
import type { NfcLimits } from './nfc-limits.ts'
import { striped } from './striped-source.ts'
import { canBeWritten } from './target-disk.ts'
import type { Waiting } from './buckets.ts'
import type { PresentDisk, SnapshotDisk, TargetDisk, Transport } from './transport.ts'
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

  /** A session past its ticket that counts against the limits, no disk open in it yet. Undefined instead of waiting when `wait` is false and a limit is reached. */
  const connect = async (disk: TargetDisk, how: SessionWish, waiting?: Abortable & Waiting): Promise<Connected | undefined> => {
    await using stack = new AsyncDisposableStack()
    const vm = vmMoRef(disk.config.vm)
    const { key, label } = disk.disk
    const { signal } = waiting ?? {}
    const asked = { signal, subject: disk.config.vm.name, disk: { key } }
    const runsOn = { type: 'HostSystem', value: disk.config.host.moref }
    const ticket = (): Promise<NfcTicket> =>
      how.access === 'read' ? ticketToRead(vsphere, vm, asked) : ticketToWrite(vsphere, vm, { key, host: runsOn }, asked)
    // The first tells the host whose sessions are counted; it may have grown old by the time there is room, and is then replaced.
    let first: NfcTicket | undefined = await ticket()
    const { host } = first
    const holder = `${disk.config.vm.name} ${label}`
    for (const tokens of options.limits.of(vsphere.host, host)) {
      const token = await (how.wait ? tokens.take({ ...waiting, holder }) : tokens.tryTake(holder))
      if (token === undefined) return undefined
      stack.use(token)
    }
    const ask = (): Promise<NfcTicket> => {
      const made = first === undefined ? ticket() : Promise.resolve(first)
      first = undefined
      return made
    }
    const dial = { encrypted: name === 'nbdssl', clock: options.clock, random: options.random, signal }
    const session = stack.use(await openNfcSession(ask, dial))
    return { session, held: stack.move() }
  }

  /** The disk, open, and proven to be the one vSphere speaks of; `held` closes it and gives back what it counts against. */
  const trySession = async (disk: TargetDisk, how: SessionWish, abort?: Abortable & Waiting): Promise<OpenSession | undefined> => {
    await using stack = new AsyncDisposableStack()
    const connected = await connect(disk, how, abort)
    if (connected === undefined) return undefined
    const { session } = connected
    stack.use(connected.held)
    const info = await session.openDisk(disk.disk.fileName, how.access, abort)
    if (info.capacity !== disk.disk.capacityBytes) {
      throw notTheDisk(disk, `the host opened ${info.capacity} bytes, vSphere says ${disk.disk.capacityBytes}`)
    }
    const uuid = await session.descriptorValue('uuid', abort)
    if (!sameUuid(uuid, disk.disk.uuid)) throw notTheDisk(disk, `its uuid is ${uuid}, vSphere says ${disk.disk.uuid}`)
    return { session, info, held: stack.move() }
  }

  const openSession = async (disk: TargetDisk, access: 'read' | 'write', abort?: Abortable & Waiting): Promise<OpenSession> => {
    const opened = await trySession(disk, { access, wait: true }, abort)
    if (opened === undefined) throw new AgentError('INTERNAL', 'An NFC session was waited for and not opened.')
    return opened
  }

  const sourceOf = ({ session, info, held }: OpenSession): BlockSource => {
    const source = createNfcDisk(session, info, options.compression ?? 'skipz')
    return {
      size: source.size,
      read: async (offset, into, reading) => {
        try {
          await source.read(offset, into, reading)
        } catch (error) {
          throw brokenStream(error, session.host)
        }
      },
      extents: async function* (range, reading) {
        try {
          yield* source.extents(range, reading)
        } catch (error) {
          throw brokenStream(error, session.host)
        }
      },
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    }
  }

  const openSource = async (disk: SnapshotDisk, abort?: Abortable & Waiting): Promise<BlockSource> =>
    sourceOf(await openSession(disk, 'read', abort))

  const openSink = async (target: TargetDisk, abort?: Abortable & Waiting): Promise<BlockSink> => {
    const fit = canBeWritten(target)
    if (!fit.ok) throw new AgentError('CONFLICT', `${fit.reason}.`, { subject: target.disk.label, retry: 'never' })
    const { session, info, held } = await openSession(target, 'write', abort)
    const sink = createNfcSink(session, info, { fresh: true, compression: options.compression ?? 'skipz' })
    const whole = async (work: Promise<void>): Promise<void> => {
      try {
        await work
      } catch (error) {
        throw brokenStream(error, session.host)
      }
    }
    return {
      size: sink.size,
      write: (offset, data, writing) => whole(sink.write(offset, data, writing)),
      zero: (range, writing) => whole(sink.zero(range, writing)),
      flush: (writing) => whole(sink.flush(writing)),
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

  const open = async (disk: SnapshotDisk, abort?: Abortable & Waiting): Promise<BlockSource> => {
    await using stack = new AsyncDisposableStack()
    const first = stack.use(await openSource(disk, abort))
    const more: BlockSource[] = []
    while (more.length + 1 < (options.sessions ?? 1)) {
      try {
        const another = await trySession(disk, { access: 'read', wait: false }, abort)
        if (another === undefined) break
        more.push(stack.use(sourceOf(another)))
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
    probe: (disk: SnapshotDisk, abort?: Abortable & Waiting) => tried(hasFile(disk.disk), () => openSource(disk, abort)),
    foresee: (disk: PresentDisk, abort?: Abortable) =>
      judged(disk, async () => {
        const connected = await connect(disk, { access: 'read', wait: true }, abort)
        await connected?.held.disposeAsync()
        return `NFC of ${connected?.session.host} answers; the disk is opened once the snapshot is there`
      }),
    open,
    writing: {
      probe: (target: TargetDisk, abort?: Abortable) => tried(canBeWritten(target), () => openSink(target, abort)),
      open: openSink,
    },
  }
}

type Connected = { readonly session: NfcSession; readonly held: AsyncDisposableStack }

type OpenSession = { readonly session: NfcSession; readonly info: DiskInfo; readonly held: AsyncDisposableStack }

type SessionWish = { readonly access: 'read' | 'write'; readonly wait: boolean }

/**
 * What came garbled was refused before it was taken for the disk's, and comes right over another connection or another transport: the session is what
 * is broken, not the disk.
 */
function brokenStream(error: unknown, host: string): unknown {
  if (!isAgentError(error, 'INTEGRITY')) return error
  return new AgentError('UNAVAILABLE', `What ${host} sent over NFC cannot be used: ${error.message}`, {
    subject: error.subject ?? host,
    cause: error,
  })
}

const notTheDisk = (disk: TargetDisk, what: string): AgentError =>
  new AgentError('INTEGRITY', `What NFC opened is not ${disk.disk.label} (${disk.disk.fileName}): ${what}.`, {
    subject: disk.disk.fileName,
    next: 'Run the command again; if it stays so, report it with the log.',
  })
