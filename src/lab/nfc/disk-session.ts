import { randomInt } from 'node:crypto'
import { SECTOR } from '../../core/index.ts'
import type { FaultRule, Model, NfcTicket } from '../model/index.ts'
import {
  allocatedBlocksReply,
  descriptorKeyReply,
  errorRecord,
  HEADER_BYTES,
  MAGIC,
  makeRecord,
  openFileReply,
  readHeader,
  RECORD,
  type RecordHeader,
  REQUEST_LENGTHS,
} from './aio-record.ts'
import { FRAME, FRAME_BYTES } from './classic-frame.ts'
import type { Speech } from './connection.ts'
import { DEFAULT_BUFFER, type HostLimits } from './host-limits.ts'
import { ConnectionOver } from './inbox.ts'
import { badRequest, ioFailed, noMemory, NfcRefusal, tooManySessions } from './nfc-refusal.ts'
import { openFile, type OpenFile } from './open-file.ts'
import { type PendingRead, readRequest, sendRead } from './read-io.ts'
import { RecordMemory } from './record-memory.ts'
import { stepFaults, type StepFaults, type StepNames } from './step-faults.ts'
import { WriteIo } from './write-io.ts'

/** Longest payload of a request whose type nobody knows, longest path and key. */
const LONGEST_PAYLOAD = 4096
const LONGEST_TEXT = 4096
const MOST_CHUNKS = 524_288n
const LEAST_CHUNK = 65_536n
/** What the host says of its sockets. */
const SOCKET_BUFFER = 1_675_000
/** How long frame 4 is waited for after the session was closed, ms. */
const FAREWELL_MS = 1000
/** A host that holds reads back to answer the newest first waits for more of them no longer than this, ms. */
const HOLD_MS = 50

/** For `vcb lab state`. */
export type SessionFacts = {
  bufferBytes: number
  memoryBytes: number
  path: string | undefined
  access: 'read' | 'write' | undefined
}

export type DiskSessionOptions = {
  readonly model: Model
  readonly ticket: NfcTicket
  readonly limits: HostLimits
  readonly who: StepNames
  /** Aborted when the socket is gone. */
  readonly gone: AbortSignal
  readonly facts: SessionFacts
  /** Takes what must be given back when the session ends, however it ends. */
  readonly owned: AsyncDisposableStack
}

/** The AIO half of a connection: one session, one disk open at a time, requests answered one after another. */
export class DiskSession {
  readonly #speech: Speech
  readonly #options: DiskSessionOptions
  #buffer = 0
  #file: { readonly handle: bigint; readonly file: OpenFile } | undefined
  readonly #writes = new WriteIo()
  readonly #held: PendingRead[] = []
  readonly #memory = new RecordMemory()

  constructor(speech: Speech, options: DiskSessionOptions) {
    this.#speech = speech
    this.#options = options
    options.owned.defer(() => this.#close())
  }

  /** Serves until the client closes the session. ConnectionOver when it leaves in another way. */
  async run(): Promise<void> {
    const { inbox } = this.#speech
    for (;;) {
      if (this.#held.length > 0 && inbox.isEmpty) {
        await Promise.race([inbox.arrival(), this.#options.model.clock.sleep(HOLD_MS)])
        if (inbox.isEmpty) await this.#answerHeld()
      }
      const bytes = await inbox.read(HEADER_BYTES)
      const header = readHeader(bytes)
      if (header.magic !== MAGIC) throw new ConnectionOver(`a record began with ${header.magic.toString(16)}`)
      const lengths = REQUEST_LENGTHS.get(header.type)
      if (lengths === undefined ? header.length > LONGEST_PAYLOAD : !lengths.includes(header.length))
        throw new ConnectionOver(`a record of type ${header.type} had a payload of ${header.length} bytes`)
      const payload = await inbox.read(header.length)
      const faults = await this.#faults('nfc:record', String(header.type))
      if (faults.cutAfterBytes !== undefined) this.#speech.outlet.cutAfter(faults.cutAfterBytes)
      if (header.type !== RECORD.io && this.#held.length > 0) await this.#answerHeld()
      if (faults.quirk('error') !== undefined) await this.#refuse(header, faultRefusal(faults.quirk('error')))
      else await this.#answer(header, payload)
      if (faults.cutAfter) {
        await this.#speech.outlet.drained()
        throw new ConnectionOver('a fault rule of the lab cut the connection')
      }
      if (header.type === RECORD.closeSession) break
    }
    // The client's last frame, which not every client sends.
    const waited = new AbortController()
    const patience = this.#options.model.clock.sleep(FAREWELL_MS, { signal: waited.signal }).catch(() => undefined) // the frame came
    await Promise.race([this.#farewell(), patience])
    waited.abort()
  }

  async #answer(header: RecordHeader, payload: Buffer): Promise<void> {
    try {
      switch (header.type) {
        case RECORD.openSession:
          return await this.#openSession(header, payload)
        case RECORD.socketOptions: {
          const reply = makeRecord(header.type, header.opId, 12)
          reply.writeUInt32LE(SOCKET_BUFFER, HEADER_BYTES)
          reply.writeUInt32LE(SOCKET_BUFFER, HEADER_BYTES + 4)
          reply.writeUInt32LE(1, HEADER_BYTES + 8)
          return await this.#send(reply)
        }
        case RECORD.resourcePool:
          return await this.#send(makeRecord(header.type, header.opId, 4))
        case RECORD.openFile:
          return await this.#openFile(header, payload)
        case RECORD.io:
          return await this.#io(header, payload)
        case RECORD.descriptorKey:
          return await this.#descriptorKey(header, payload)
        case RECORD.allocatedBlocks:
          return await this.#allocatedBlocks(header, payload)
        case RECORD.closeFile:
          await this.#faults('nfc:close')
          this.#opened(payload.readBigUInt64LE(0))
          await this.#close()
          return await this.#send(makeRecord(header.type, header.opId, header.length))
        case RECORD.closeSession:
          await this.#close()
          return await this.#send(makeRecord(header.type, header.opId, header.length))
        default:
          throw badRequest(`NfcAioProcessMsg: the message type ${header.type} is not supported`)
      }
    } catch (error) {
      if (!(error instanceof NfcRefusal)) throw error
      await this.#refuse(header, error)
    }
  }

  async #openSession(header: RecordHeader, payload: Buffer): Promise<void> {
    const { limits, ticket, owned, facts } = this.#options
    const faults = await this.#faults('nfc:session')
    const asked = payload.readUInt32LE(4)
    const size = asked === 0 ? DEFAULT_BUFFER : asked
    if (this.#buffer > 0) throw badRequest('NfcAioOpenSession: the session is open already')
    const above = (rule: FaultRule | undefined): boolean => rule !== undefined && size > (rule.value ?? 0)
    if (above(faults.quirk('memoryFull'))) throw noMemory(size + 24)
    if (faults.quirk('sessionLimit') !== undefined) throw tooManySessions()
    if (above(faults.quirk('bufferRefused'))) throw badRequest(`NfcAioOpenSession: a buffer of ${size} bytes is too large`)
    if (this.#options.gone.aborted) throw new ConnectionOver('the client closed the connection')
    const taken = owned.use(limits.take(ticket.host, ticket.through, size, payload.readUInt32LE(8)))
    this.#buffer = size
    facts.bufferBytes = size
    facts.memoryBytes = taken.bytes
    if (faults.cutAfterBytes !== undefined) this.#speech.outlet.cutAfter(faults.cutAfterBytes)
    await this.#send(makeRecord(header.type, header.opId, 16))
  }

  async #openFile(header: RecordHeader, payload: Buffer): Promise<void> {
    const { model, ticket, facts } = this.#options
    const length = payload.readUInt32LE(0)
    if (length > LONGEST_TEXT) throw new ConnectionOver(`a path had ${length} bytes`)
    const path = (await this.#speech.inbox.read(length)).toString('utf8')
    const flags = payload.readUInt32LE(20)
    const faults = await this.#faults('nfc:open', path)
    if (this.#buffer === 0) throw badRequest('NfcAioProcessOpenFileMsg: the session is not open')
    if (this.#file !== undefined) throw badRequest('NfcAioProcessOpenFileMsg: the session has a disk open')
    if (faults.quirk('memoryFull') !== undefined) throw noMemory(this.#buffer + 24)
    if (faults.quirk('error') !== undefined) throw faultRefusal(faults.quirk('error'))
    const status = faults.quirk('statusOnly') ?? faults.quirk('status')
    if (status !== undefined)
      return this.#send(openFileReply(header.opId, { status: status.value ?? 4, handle: 0n, flags, capacity: 0, sectorSize: 0 }))
    const file = await openFile(model, ticket, { path, flags }, faults)
    if (this.#options.gone.aborted) {
      await file[Symbol.asyncDispose]()
      throw new ConnectionOver('the client left while its disk was opened')
    }
    const handle = 0xffff_ffff_0000_0000n | BigInt(randomInt(0x8000_0000, 0xffff_ffff))
    this.#file = { handle, file }
    facts.path = path
    facts.access = file.access
    const lie = faults.quirk('wrongCapacity') === undefined ? 0 : (faults.quirk('wrongCapacity')?.value ?? 1024 * 1024)
    const odd = faults.quirk('oddCapacity') === undefined ? 0 : 100
    const sectorSize = faults.quirk('noSectorSize') === undefined ? SECTOR : 0
    await this.#send(openFileReply(header.opId, { handle, flags, capacity: file.size + lie + odd, sectorSize }))
  }

  async #io(header: RecordHeader, payload: Buffer): Promise<void> {
    const operation = payload.readUInt32LE(8)
    if (operation === 0) return this.#write(header, payload)
    if (operation !== 1) throw badRequest(`NfcAioProcessIOMsg: the operation ${operation} is not known`)
    const file = this.#opened(payload.readBigUInt64LE(0))
    const faults = await this.#faults('nfc:read', file.path)
    if (faults.quirk('error') !== undefined) throw faultRefusal(faults.quirk('error'))
    const read: PendingRead = { request: readRequest(header, payload, file.size), file, faults }
    const hold = faults.quirk('hold')
    if (hold === undefined) {
      await this.#answerHeld()
      return this.#answerRead(read)
    }
    this.#held.push(read)
    if (this.#held.length >= (hold.value ?? 4)) await this.#answerHeld()
  }

  /** Newest first. */
  async #answerHeld(): Promise<void> {
    for (let read = this.#held.pop(); read !== undefined; read = this.#held.pop()) await this.#answerRead(read)
  }

  async #answerRead(read: PendingRead): Promise<void> {
    try {
      await sendRead(this.#speech.outlet, this.#memory, read, this.#buffer)
    } catch (error) {
      if (!(error instanceof NfcRefusal)) throw error
      await this.#refuse({ magic: MAGIC, type: RECORD.io, length: 44, opId: read.request.opId }, error)
    }
  }

  async #write(header: RecordHeader, payload: Buffer): Promise<void> {
    const wire = payload.readUInt32LE(36)
    if (wire > this.#buffer) throw new ConnectionOver(`a write brought ${wire} bytes for a buffer of ${this.#buffer}`)
    const tail = await this.#speech.inbox.read(wire)
    const known = this.#file?.handle === payload.readBigUInt64LE(0) ? this.#file.file : undefined
    const faults = await this.#faults('nfc:write', known?.path)
    if (faults.quirk('cutChunk') !== undefined) throw new ConnectionOver('a fault rule of the lab cut the connection')
    const answer = this.#writes.take(header.opId, payload, tail, {
      file: known,
      buffer: this.#buffer,
      fault: faults.quirk('error') === undefined ? undefined : faultRefusal(faults.quirk('error')),
      status: faults.quirk('status')?.value ?? (faults.quirk('status') === undefined ? 0 : 13),
    })
    if (answer instanceof NfcRefusal) throw answer
    if (answer !== undefined) await this.#send(answer)
  }

  async #descriptorKey(header: RecordHeader, payload: Buffer): Promise<void> {
    const length = payload.readUInt32LE(8)
    if (length > LONGEST_TEXT) throw new ConnectionOver(`a key had ${length} bytes`)
    const key = (await this.#speech.inbox.read(length)).toString('latin1')
    const file = this.#opened(payload.readBigUInt64LE(0))
    const faults = await this.#faults('nfc:key', key)
    const value = file.descriptorValue(key)
    const lie = faults.quirk('wrongValue') !== undefined && value !== undefined
    await this.#send(descriptorKeyReply(header.opId, lie ? value.split('').reverse().join('') : value))
  }

  async #allocatedBlocks(header: RecordHeader, payload: Buffer): Promise<void> {
    const file = this.#opened(payload.readBigUInt64LE(0))
    const faults = await this.#faults('nfc:query', file.path)
    const [chunk, start, count] = [payload.readBigUInt64LE(16), payload.readBigUInt64LE(24), payload.readBigUInt64LE(32)]
    const fits = chunk >= LEAST_CHUNK && chunk % BigInt(SECTOR) === 0n && start % chunk === 0n
    if (!fits || count > MOST_CHUNKS || start + count * chunk > BigInt(file.size))
      throw badRequest('NfcAioProcessQueryAllocatedBlocksMsg: the area is not aligned to chunks of the disk')
    if (faults.quirk('error') !== undefined) throw faultRefusal(faults.quirk('error'))
    const [size, from, chunks] = [Number(chunk), Number(start), Number(count)]
    const used = new Uint8Array(chunks)
    if (chunks > 0) {
      for (const area of file.allocated({ offset: from, length: chunks * size })) {
        const first = Math.max(0, Math.floor((area.offset - from) / size))
        const last = Math.min(chunks - 1, Math.floor((area.offset + area.length - 1 - from) / size))
        used.fill(1, first, last + 1)
      }
    }
    const told = faults.quirk('wrongCount') === undefined ? chunks : chunks + 1
    await this.#send(allocatedBlocksReply(header.opId, chunks, told, (index) => used[index] === 1))
  }

  /** The ERROR record, and the ordinary answer in zeros behind it. */
  async #refuse(header: RecordHeader, refusal: NfcRefusal): Promise<void> {
    this.#options.model.log.debug('an NFC request was refused', { type: header.type, error: refusal.message })
    await this.#send(
      Buffer.concat([errorRecord(header.opId, refusal.code, refusal.message), makeRecord(header.type, header.opId, header.length)]),
    )
  }

  #opened(handle: bigint): OpenFile {
    if (this.#file?.handle !== handle) throw badRequest('NfcAioFindFile: the handle is not known')
    return this.#file.file
  }

  async #close(): Promise<void> {
    const open = this.#file
    this.#file = undefined
    this.#options.facts.path = undefined
    this.#options.facts.access = undefined
    await open?.file[Symbol.asyncDispose]()
  }

  async #farewell(): Promise<void> {
    const frame = await this.#speech.inbox.read(FRAME_BYTES).catch((error: unknown) => {
      if (error instanceof ConnectionOver) return undefined
      throw error
    })
    if (frame !== undefined && frame.readUInt32LE(0) !== FRAME.end) this.#options.model.log.debug('an NFC session ended with another frame')
  }

  #faults(on: string, name?: string): Promise<StepFaults> {
    const { model, who, gone } = this.#options
    return stepFaults(model, on, name === undefined ? who : { ...who, names: [...who.names, name] }, gone)
  }

  #send(bytes: Buffer): Promise<void> {
    return this.#speech.outlet.send(bytes)
  }
}

const faultRefusal = (rule: FaultRule | undefined): NfcRefusal => {
  const text = rule?.message ?? 'DiskLib error: a fault rule of the lab refused this request'
  return rule?.value === undefined ? ioFailed(text) : new NfcRefusal(rule.value, text)
}
