import {
  type Abortable,
  AgentError,
  type Extent,
  isAgentError,
  MIB,
  type Range,
  rangeEnd,
  throwIfAborted,
  totalLength,
} from '../core/index.ts'
import type { SshConnection } from './connection.ts'
import { hostFileError } from './host-error.ts'
import { type Answer, HostFault, ProgramLane } from './program-lane.ts'
import type { RemoteFiles, RemotePiece, WritableRemoteFile } from './remote-files.ts'

/** A read is dealt out over the lanes in pieces of this size. Bytes */
const PIECE = MIB
/** Programs beside each other for the files of one disk: each has a window of 2 MiB of its own, which is what a distant host is slowed by. */
const LANES = 3
/** Another lane is begun when the others have so much to answer. Bytes */
const BUSY = 2 * MIB

/** Files through our program for the host's python3. `first` is a lane that runs; it belongs to the result. */
export function pythonFiles(connection: SshConnection, first: ProgramLane): RemoteFiles {
  const lanes = new Lanes(connection, first)
  return {
    how: { program: 'python3', reason: 'python3 of the host reads, and leaves zeros at home' },
    open: async (path, options) => fileOf(lanes, path, 'o', await lanes.sizeOf(path, 'o', options)),
    digest: (pieces, options) => lanes.digest(pieces, options),
    openToWrite: async (path, options) => fileOf(lanes, path, 'p', await lanes.sizeOf(path, 'p', options)),
    [Symbol.asyncDispose]: () => lanes[Symbol.asyncDispose](),
  }
}

type Mode = 'o' | 'p'

function fileOf(lanes: Lanes, path: string, mode: Mode, size: number): WritableRemoteFile {
  const inside = (offset: number, length: number): void => {
    if (offset >= 0 && length >= 0 && offset + length <= size) return
    throw new AgentError('INTEGRITY', `${path} has ${size} bytes; the ${length} at ${offset} lie outside.`, { subject: path })
  }
  const ask = (name: string, range: Range, answer: Answer, options?: Abortable & { readonly body?: Uint8Array }): Promise<void> =>
    lanes.ask(path, mode, (file) => `${name} ${file} ${range.offset} ${range.length}\n`, answer, { ...options, cost: range.length })
  const pieces = async (length: number, work: (at: number, size: number) => Promise<void>): Promise<void> => {
    const under: Promise<void>[] = []
    for (let at = 0; at < length; at += PIECE) under.push(work(at, Math.min(PIECE, length - at)))
    // All have ended before the caller has its buffer back, also when one failed.
    for (const result of await Promise.allSettled(under)) if (result.status === 'rejected') throw result.reason
  }
  return {
    path,
    size,
    read: async (offset, into, options) => {
      inside(offset, into.length)
      await pieces(into.length, (at, length) =>
        ask('r', { offset: offset + at, length }, new ReadAnswer(into.subarray(at, at + length)), options),
      )
    },
    holes: (range, options) => {
      inside(range.offset, range.length)
      return holes(ask, range, options)
    },
    write: async (offset, data, options) => {
      inside(offset, data.length)
      await pieces(data.length, (at, length) =>
        ask('w', { offset: offset + at, length }, new Done(), { ...options, body: data.subarray(at, at + length) }),
      )
    },
    sync: (options) => lanes.ask(path, mode, (file) => `f ${file}\n`, new Done(), options),
  }
}

type Ask = (name: string, range: Range, answer: Answer, options?: Abortable) => Promise<void>

async function* holes(ask: Ask, range: Range, options?: Abortable): AsyncGenerator<Extent> {
  for (let offset = range.offset; offset < rangeEnd(range); ) {
    const answer = new HolesAnswer(offset, rangeEnd(range))
    try {
      await ask('m', { offset, length: rangeEnd(range) - offset }, answer, options)
    } catch (error) {
      // File systems that do not know say EINVAL or ENOTSUP; then it is all data, and zeros are left at home by the reading.
      if (!isAgentError(error, 'UNAVAILABLE') || !(error.cause instanceof HostFault)) throw error
      yield { offset, length: rangeEnd(range) - offset, kind: 'data' }
      return
    }
    yield* answer.extents
    offset = answer.end
  }
}

const unexpected = (tag: string): AgentError =>
  new AgentError('UNAVAILABLE', `The reading program of the host gave an answer of another kind ("${tag.slice(0, 20)}").`)

class ReadAnswer implements Answer {
  #into: Uint8Array | undefined
  readonly #length: number
  #at = 0
  #raw = 0

  constructor(into: Uint8Array) {
    this.#into = into
    this.#length = into.length
  }

  line(tag: string, [length = 0]: readonly number[]): number | 'end' {
    if ((tag !== 'd' && tag !== 'z') || length === 0 || this.#at + this.#raw + length > this.#length) throw unexpected(tag)
    if (tag === 'z') {
      this.#into?.fill(0, this.#at, this.#at + length)
      this.#at += length
      return this.#at === this.#length ? 'end' : 0
    }
    this.#raw = length
    return length
  }

  raw(piece: Uint8Array): boolean {
    this.#into?.set(piece, this.#at)
    this.#at += piece.length
    this.#raw -= piece.length
    return this.#raw === 0 && this.#at === this.#length
  }

  drop(): void {
    this.#into = undefined
  }
}

/** `s` with the number of its question and the bytes that were hashed: an answer to anything else is none. */
class DigestAnswer implements Answer {
  readonly digest = new Uint8Array(32)
  readonly #question: number
  readonly #bytes: number
  #at = 0

  constructor(question: number, bytes: number) {
    this.#question = question
    this.#bytes = bytes
  }

  line(tag: string, [question, bytes]: readonly number[]): number {
    if (tag !== 's' || question !== this.#question || bytes !== this.#bytes) throw unexpected(tag)
    return this.digest.length
  }

  raw(piece: Uint8Array): boolean {
    this.digest.set(piece, this.#at)
    this.#at += piece.length
    return this.#at === this.digest.length
  }
}

class HolesAnswer implements Answer {
  readonly extents: Extent[] = []
  end: number
  readonly #most: number

  constructor(start: number, most: number) {
    this.end = start
    this.#most = most
  }

  line(tag: string, [number = 0]: readonly number[]): number | 'end' {
    if (tag === 'k' && this.end === this.#most) return 'end'
    if (tag === 'c' && number === this.end && this.extents.length > 0) return 'end'
    if ((tag !== 'd' && tag !== 'z') || number === 0 || this.end + number > this.#most) throw unexpected(tag)
    this.extents.push({ offset: this.end, length: number, kind: tag === 'd' ? 'data' : 'zero' })
    this.end += number
    return 0
  }
}

/** `k`, and for a file just opened its size. */
class Done implements Answer {
  value = 0

  line(tag: string, [value = 0]: readonly number[]): 'end' {
    if (tag !== 'k') throw unexpected(tag)
    this.value = value
    return 'end'
  }
}

/** The running programs of one set of files; a request goes to the one that has the least to answer. */
class Lanes implements AsyncDisposable {
  readonly #connection: SshConnection
  readonly #lanes: ProgramLane[]
  readonly #sizes = new Map<string, number>()
  #starting: Promise<void> | undefined
  /** Questions for digests so far. */
  #questions = 0
  readonly #closing = new AbortController()

  constructor(connection: SshConnection, first: ProgramLane) {
    this.#connection = connection
    this.#lanes = [first]
  }

  async sizeOf(path: string, mode: Mode, options?: Abortable): Promise<number> {
    await this.#fileOn(this.#laneFor(mode), path, mode, options)
    return this.#sizes.get(path) ?? 0
  }

  async ask(
    path: string,
    mode: Mode,
    line: (file: number) => string,
    answer: Answer,
    options?: Abortable & { readonly body?: Uint8Array; readonly cost?: number },
  ): Promise<void> {
    const lane = this.#laneFor(mode)
    // Counted before the file is open there, so that the next caller sees it.
    lane.pending += options?.cost ?? 0
    let file: number
    try {
      file = await this.#fileOn(lane, path, mode, options)
    } finally {
      lane.pending -= options?.cost ?? 0
    }
    await translated(this.#connection, path, lane.request(line(file), answer, options))
  }

  /** All pieces are asked of one lane, whichever files they lie in. */
  async digest(pieces: readonly RemotePiece[], options?: Abortable): Promise<Uint8Array> {
    const lane = this.#laneFor('o')
    const cost = totalLength(pieces)
    const question = ++this.#questions
    const answer = new DigestAnswer(question, cost)
    const first = pieces.find(({ path }) => path !== undefined)?.path ?? 'nothing but zeros'
    lane.pending += cost
    const words = [`s ${question}`]
    try {
      for (const { path, offset, length } of pieces) {
        const file = path === undefined ? -1 : await this.#fileOn(lane, path, 'o', options)
        words.push(`${file} ${offset} ${length}`)
      }
    } finally {
      lane.pending -= cost
    }
    await translated(this.#connection, first, lane.request(`${words.join(' ')}\n`, answer, { ...options, cost }))
    return answer.digest
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new AgentError('CANCELED', 'The files of the host were closed.'))
    await this.#starting
    for (const lane of this.#lanes.splice(0)) await lane[Symbol.asyncDispose]()
  }

  #laneFor(mode: Mode): ProgramLane {
    const [first] = this.#lanes
    if (first === undefined) throw new AgentError('INTERNAL', 'Files of a host were read after they were closed.')
    // A lane that broke is everybody's end: the disk is opened again, with everything on the way known to be lost.
    const broken = this.#lanes.find((lane) => lane.broken !== undefined)?.broken
    if (broken !== undefined) throw broken
    // A host may let one program at a time write to a file.
    if (mode === 'p') return first
    const least = this.#lanes.reduce((best, lane) => (lane.pending < best.pending ? lane : best), first)
    if (least.pending >= BUSY && this.#lanes.length < LANES && this.#starting === undefined && this.#connection.hasRoom) {
      this.#starting = this.#another()
    }
    return least
  }

  /** Never rejects: one lane is enough. */
  async #another(): Promise<void> {
    try {
      const lane = await ProgramLane.start(this.#connection, { signal: this.#closing.signal })
      if (this.#closing.signal.aborted) await lane[Symbol.asyncDispose]()
      else this.#lanes.push(lane)
    } catch (error) {
      this.#connection.deps.log.debug('no further reading program', { host: this.#connection.host.name, error: String(error) })
      return
    }
    this.#starting = undefined
  }

  #fileOn(lane: ProgramLane, path: string, mode: Mode, options?: Abortable): Promise<number> {
    const key = `${mode}${path}`
    let opened = lane.files.get(key)
    if (opened === undefined) {
      const number = lane.files.size
      opened = this.#open(lane, number, path, mode)
      lane.files.set(key, opened)
      opened.catch(() => undefined) // told to everyone who waits for it
    }
    throwIfAborted(options)
    return opened
  }

  async #open(lane: ProgramLane, number: number, path: string, mode: Mode): Promise<number> {
    const done = new Done()
    await translated(this.#connection, path, lane.request(`${mode} ${number} ${Buffer.from(path).toString('hex')}\n`, done))
    const known = this.#sizes.get(path)
    if (known !== undefined && known !== done.value) {
      throw new AgentError('INTEGRITY', `${path} changed its size from ${known} to ${done.value} bytes while it was being read.`, {
        subject: path,
      })
    }
    this.#sizes.set(path, done.value)
    return number
  }
}

async function translated(connection: SshConnection, path: string, work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof HostFault)) throw error
    const shown = hostFileError(connection.host.name, path, error.errno, error.message)
    throw new AgentError(shown.code, shown.message, { subject: shown.subject, next: shown.next, retry: shown.retry, cause: error })
  }
}
