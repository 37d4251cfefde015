import {
  AgentError,
  anySignal,
  type ByteChannel,
  type Clock,
  type Log,
  MIB,
  sharedMemory,
  throwIfAborted,
  toAgentError,
} from '../core/index.ts'
import { outOfStep } from './nbd-error.ts'
import { COMMAND, COMMAND_FLAG, ERRNO, LARGEST_PAYLOAD, REQUEST_BYTES, REQUEST_MAGIC } from './protocol.ts'
import { Replies } from './replies.ts'
import type { ServedExport } from './served-export.ts'
import { type Agreement, welcome } from './server-handshake.ts'

const HANDSHAKE_MS = 30_000
/** Requests of one connection under way, and what of them is in memory: enough for those that wait to be read together where they lie beside each other. */
const IN_FLIGHT = 16
const IN_MEMORY = 4 * MIB
/** A read is answered in pieces of this size. Bytes. */
const PIECE = MIB
const MOST_EXTENTS = 2048
/** Memory of reads comes in powers of two from this up to a piece, so that what was answered serves for the next one, whatever its length. Bytes. */
const LEAST_MEMORY = 4096

type Request = {
  readonly flags: number
  readonly command: number
  readonly cookie: Buffer
  /** Undefined: beyond every disk. */
  readonly offset: number | undefined
  readonly length: number
}

export type ServerConnectionOptions = { readonly clock: Clock; readonly log: Log }

/** One client from its greeting to its end. Everything it asks for is bounded; what it does wrong ends it alone. */
export class ServerConnection {
  readonly #channel: ByteChannel
  readonly #replies: Replies
  readonly #options: ServerConnectionOptions
  readonly #closing = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  /** Memory of answered reads. What is not taken again is held by threads that wrote into it, until they happen to collect their garbage. */
  readonly #spare: Buffer[] = []
  #inMemory = 0
  /** Called when a request has ended, by who waits for that. */
  #ended: (() => void) | undefined

  constructor(channel: ByteChannel, options: ServerConnectionOptions) {
    this.#channel = channel
    this.#replies = new Replies(channel)
    this.#options = options
  }

  /** Serves until the client leaves. Never throws. */
  async run(exports: readonly ServedExport[]): Promise<void> {
    const { log } = this.#options
    try {
      const agreement = await this.#handshake(exports)
      if (agreement === undefined) return
      using _connected = agreement.taken.connect()
      log.debug('an NBD client took an export', { export: agreement.taken.name, structured: agreement.structured })
      await this.#serve(agreement)
    } catch (error) {
      const shown = toAgentError(error)
      log.debug('an NBD client was disconnected', { peer: this.#channel.peer, error: shown.message })
    } finally {
      this.#channel.fail(new AgentError('CANCELED', 'The NBD client has left.'))
      await Promise.allSettled(this.#underWay)
    }
  }

  /** New requests are refused from now on; resolves when those under way are answered or cut off. */
  async shutDown(within: Promise<void>): Promise<void> {
    this.#closing.abort()
    await Promise.race([Promise.allSettled(this.#underWay), within])
    this.#channel.fail(new AgentError('CANCELED', 'The NBD server is closing.'))
  }

  async #handshake(exports: readonly ServedExport[]): Promise<Agreement | undefined> {
    const done = new AbortController()
    const { clock } = this.#options
    const signal = anySignal(done.signal, this.#channel.ended)
    const late = (): void => this.#channel.fail(new AgentError('UNAVAILABLE', `${this.#channel.peer} did not finish the NBD handshake.`))
    clock.sleep(HANDSHAKE_MS, { signal }).then(late, () => undefined) // it was finished in time
    try {
      return await welcome(this.#channel, exports)
    } finally {
      done.abort()
    }
  }

  async #serve(agreement: Agreement): Promise<void> {
    for (;;) {
      const request = decodeRequest(await this.#channel.take(REQUEST_BYTES), this.#channel.peer)
      if (request.command === COMMAND.disconnect) return
      if (request.command === COMMAND.write) await this.#throwAway(request.length)
      const memory = request.command === COMMAND.read ? memoryFor(request.length) : 0
      await this.#room(memory)
      // What was waiting for room when the client went is not begun any more.
      throwIfAborted({ signal: this.#channel.ended })
      this.#begin(agreement, request, memory)
    }
  }

  /** Waits until another request may begin. */
  async #room(memory: number): Promise<void> {
    while (this.#underWay.size >= IN_FLIGHT || (this.#underWay.size > 0 && this.#inMemory + memory > IN_MEMORY)) {
      // Not a race of all under way, which would hang something on each of them every time.
      await new Promise<void>((resolve) => (this.#ended = resolve))
    }
  }

  #begin(agreement: Agreement, request: Request, memory: number): void {
    this.#inMemory += memory
    const work = this.#answer(agreement, request)
      // A reply that cannot be finished or sent: the client learns it by the end of the connection.
      .catch((error: unknown) => this.#channel.fail(toAgentError(error)))
      .finally(() => {
        this.#inMemory -= memory
        this.#underWay.delete(work)
        this.#ended?.()
        this.#ended = undefined
      })
    this.#underWay.add(work)
  }

  async #answer(agreement: Agreement, request: Request): Promise<void> {
    const { command, length } = request
    if (this.#closing.signal.aborted) return this.#refuse(agreement, request, ERRNO.ESHUTDOWN, 'the server is closing')
    if (command === COMMAND.flush) return this.#replies.simple(request.cookie, 0)
    if (command === COMMAND.write || command === COMMAND.trim || command === COMMAND.writeZeroes) {
      return this.#refuse(agreement, request, ERRNO.EPERM, 'the export is read-only')
    }
    const offset = request.offset
    if (offset === undefined || length === 0 || offset + length > agreement.taken.size) {
      return this.#refuse(agreement, request, ERRNO.EINVAL, `not inside a disk of ${agreement.taken.size} bytes`)
    }
    if (command === COMMAND.read && length <= LARGEST_PAYLOAD) return this.#read(agreement, { ...request, offset })
    if (command === COMMAND.blockStatus && agreement.allocation) return this.#status(agreement, { ...request, offset })
    return this.#refuse(agreement, request, ERRNO.EINVAL, 'not known here')
  }

  async #read(agreement: Agreement, request: Request & { readonly offset: number }): Promise<void> {
    const { cookie, offset, length, flags } = request
    if (!agreement.structured) return this.#readUnstructured(agreement.taken, request)
    const whole = (flags & COMMAND_FLAG.df) !== 0
    if (whole && length > PIECE) return this.#refuse(agreement, request, ERRNO.EOVERFLOW, `one chunk has at most ${PIECE} bytes`)
    const piece = this.#take(memoryFor(length))
    for (let at = 0; at < length; at += PIECE) {
      const part = piece.subarray(0, Math.min(PIECE, length - at))
      try {
        await agreement.taken.read(offset + at, part, { signal: this.#channel.ended })
      } catch (error) {
        return this.#refuse(agreement, request, ERRNO.EIO, toAgentError(error).message)
      }
      await this.#replies.data(cookie, offset + at, part, { last: at + PIECE >= length, whole })
    }
    this.#give(piece)
  }

  #take(bytes: number): Buffer {
    const fitting = this.#spare.findIndex((piece) => piece.length === bytes)
    return this.#spare.splice(fitting, fitting < 0 ? 0 : 1)[0] ?? sharedMemory(bytes)
  }

  /** Only of a reply that the system has taken whole: of one that failed, something may still be on its way. */
  #give(piece: Buffer): void {
    this.#spare.push(piece)
    while (this.#spare.reduce((sum, { length }) => sum + length, 0) > IN_MEMORY) this.#spare.shift()
  }

  async #readUnstructured(taken: ServedExport, { cookie, offset, length }: Request & { readonly offset: number }): Promise<void> {
    const options = { signal: this.#channel.ended }
    const piece = Buffer.allocUnsafe(Math.min(PIECE, length))
    try {
      await taken.read(offset, piece, options)
    } catch {
      // Remembered by the export.
      return this.#replies.simple(cookie, ERRNO.EIO)
    }
    await this.#replies.simple(cookie, 0, async (write) => {
      await write(piece)
      for (let at = PIECE; at < length; at += PIECE) {
        const part = piece.subarray(0, Math.min(PIECE, length - at))
        await taken.read(offset + at, part, options)
        await write(part)
      }
    })
  }

  async #status(agreement: Agreement, request: Request & { readonly offset: number }): Promise<void> {
    const limit = (request.flags & COMMAND_FLAG.requestOne) === 0 ? MOST_EXTENTS : 1
    const { offset, length, cookie } = request
    try {
      const extents = await agreement.taken.extents({ offset, length }, limit, { signal: this.#channel.ended })
      await this.#replies.status(cookie, extents)
    } catch (error) {
      await this.#refuse(agreement, request, ERRNO.EIO, toAgentError(error).message)
    }
  }

  #refuse(agreement: Agreement, { cookie, command }: Request, errno: number, text: string): Promise<void> {
    const chunked = agreement.structured && (command === COMMAND.read || command === COMMAND.blockStatus)
    return chunked ? this.#replies.error(cookie, errno, text) : this.#replies.simple(cookie, errno)
  }

  async #throwAway(length: number): Promise<void> {
    if (length > LARGEST_PAYLOAD) throw outOfStep(this.#channel.peer, `a write of ${length} bytes`)
    await this.#channel.pour(length, () => undefined)
  }
}

/** What a read of this length takes at a time. */
const memoryFor = (length: number): number => Math.min(PIECE, Math.max(LEAST_MEMORY, 2 ** Math.ceil(Math.log2(length))))

function decodeRequest(head: Buffer, peer: string): Request {
  if (head.readUInt32BE(0) !== REQUEST_MAGIC) throw outOfStep(peer, 'what is no request')
  const offset = head.readBigUInt64BE(16)
  return {
    flags: head.readUInt16BE(4),
    command: head.readUInt16BE(6),
    cookie: Buffer.from(head.subarray(8, 16)),
    offset: offset > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(offset),
    length: head.readUInt32BE(24),
  }
}
