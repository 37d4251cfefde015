import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AgentError,
  fromErrno,
  KIB,
  makeTemporaryDirectory,
  MIB,
  openOutput,
  type OutputFile,
  removeTree,
  type RunId,
} from '../core/index.ts'
import { skeletonPrefix } from './digest-spool.ts'
import { BLOCK, parsePax, readHeader } from './tar-index.ts'

export const SKELETON_VERSION = 1
/** Digits of the trailer's length, and a newline. */
export const SKELETON_END_BYTES = 17
export const SKELETON_FILE = 'point.skeleton'

/** Kept pieces are written together, bytes. */
const TOGETHER = 256 * KIB
const MOST_PAX_BYTES = MIB

type State =
  | { readonly is: 'header' | 'map' }
  | { readonly is: 'keep' | 'drop'; left: number }
  | { readonly is: 'pax'; readonly data: Buffer; readonly padded: number; filled: number }

const HEADER: State = Object.freeze({ is: 'header' })

/**
 * An archive of ours as it goes by, without the data of its disks: headers, small files, sparse maps, digests, commit, each with its place
 * (docs/formats/archive-skeleton.md). With it a stored stream is listed, proven and cut into disks without being read. It lies in a directory of
 * its own among temporary files, with the run's id in its name, until it is disposed. 32 MB for each TB of data.
 */
export class ArchiveSkeleton implements AsyncDisposable {
  readonly directory: string
  readonly path: string
  /** First byte and length of each kept piece, ascending. */
  readonly segments: [number, number][] = []
  /** Bytes of the archive so far. */
  archiveBytes = 0
  readonly #file: OutputFile
  readonly #block = Buffer.alloc(BLOCK)
  #filled = 0
  #state: State = HEADER
  #pax: ReadonlyMap<string, string> = new Map()
  /** Of the entry whose map is being read: newlines seen, and wanted once the first number is known; bytes of its data. */
  #map = { seen: 0, wanted: 0, left: 0 }
  #pending: Buffer[] = []
  #pendingBytes = 0

  private constructor(directory: string, file: OutputFile) {
    this.directory = directory
    this.path = join(directory, SKELETON_FILE)
    this.#file = file
  }

  static async open(run: RunId): Promise<ArchiveSkeleton> {
    const directory = await makeTemporaryDirectory(join(tmpdir(), skeletonPrefix(run)))
    try {
      return new ArchiveSkeleton(directory, await openOutput(join(directory, SKELETON_FILE), 'wx+'))
    } catch (error) {
      await removeTree(directory)
      throw fromErrno(error, directory) ?? error
    }
  }

  /** The next bytes of the archive; they may be changed when it resolves. CAPACITY. */
  async add(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = this.#take(bytes.subarray(at))
      if (this.#state.is !== 'drop') this.#keep(bytes.subarray(at, at + part))
      this.archiveBytes += part
      at += part
      this.#advance(part, bytes.subarray(at - part, at))
    }
    if (this.#pendingBytes >= TOGETHER) await this.#flush()
  }

  /** The archive has ended: the skeleton is whole at its path. Its size in bytes. */
  async end(): Promise<number> {
    const trailer = Buffer.from(
      JSON.stringify({ skeletonVersion: SKELETON_VERSION, archiveBytes: this.archiveBytes, segments: this.segments }),
    )
    this.#push(trailer)
    this.#push(Buffer.from(`${String(trailer.length).padStart(SKELETON_END_BYTES - 1, '0')}\n`))
    await this.#flush()
    return this.#file.size()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close()
    await removeTree(this.directory)
  }

  /** How many of the next bytes belong to what is being read now. */
  #take(bytes: Uint8Array): number {
    const state = this.#state
    const most =
      state.is === 'keep' || state.is === 'drop' ? state.left : state.is === 'pax' ? state.padded - state.filled : BLOCK - this.#filled
    return Math.min(bytes.length, most)
  }

  #advance(part: number, bytes: Uint8Array): void {
    const state = this.#state
    if (state.is === 'keep' || state.is === 'drop') {
      state.left -= part
      if (state.left === 0) this.#state = HEADER
    } else if (state.is === 'pax') {
      // Behind its data it is filled up with zeros.
      if (state.filled < state.data.length) state.data.set(bytes.subarray(0, state.data.length - state.filled), state.filled)
      state.filled += part
      if (state.filled < state.padded) return
      this.#pax = parsePax(state.data, { name: this.path }, this.archiveBytes - state.padded)
      this.#state = HEADER
    } else {
      this.#block.set(bytes, this.#filled)
      this.#filled += part
      if (this.#filled < BLOCK) return
      this.#filled = 0
      if (state.is === 'header') this.#header()
      else this.#mapBlock()
    }
  }

  #header(): void {
    // The two blocks at the end, and what fills a record.
    if (this.#block.every((byte) => byte === 0)) return
    const { size: own, type } = readHeader(this.#block, { name: this.path }, this.archiveBytes - BLOCK)
    const size = Number(this.#pax.get('size') ?? own)
    const padded = Math.ceil(size / BLOCK) * BLOCK
    const sparse = this.#pax.has('GNU.sparse.major')
    if (type === 'x') {
      if (size > MOST_PAX_BYTES) throw new AgentError('INTERNAL', `An extended header of ${size} bytes was written.`)
      this.#state = { is: 'pax', data: Buffer.alloc(size), padded, filled: 0 }
      return
    }
    this.#pax = new Map()
    if (padded === 0) return
    this.#state = sparse ? { is: 'map' } : { is: 'keep', left: padded }
    this.#map = { seen: 0, wanted: 0, left: padded }
  }

  /** A map is text: the number of segments, then two numbers for each, a newline behind every number; filled up to a whole block. */
  #mapBlock(): void {
    const map = this.#map
    if (map.wanted === 0) map.wanted = 1 + 2 * Number.parseInt(this.#block.toString('latin1', 0, 20), 10)
    for (const byte of this.#block) if (byte === 0x0a) map.seen++
    map.left -= BLOCK
    if (map.seen < map.wanted) return
    this.#state = map.left === 0 ? HEADER : { is: 'drop', left: map.left }
  }

  #keep(bytes: Uint8Array): void {
    const last = this.segments.at(-1)
    if (last !== undefined && last[0] + last[1] === this.archiveBytes) last[1] += bytes.length
    else this.segments.push([this.archiveBytes, bytes.length])
    this.#push(bytes)
  }

  #push(bytes: Uint8Array): void {
    this.#pending.push(Buffer.from(bytes))
    this.#pendingBytes += bytes.length
  }

  async #flush(): Promise<void> {
    const bytes = Buffer.concat(this.#pending)
    this.#pending = []
    this.#pendingBytes = 0
    try {
      await this.#file.write(bytes)
    } catch (error) {
      throw fromErrno(error, this.path) ?? error
    }
  }
}
