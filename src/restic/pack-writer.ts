import { hash } from 'node:crypto'
import { type AgentError, toAgentError } from '../core/index.ts'
import { BlobRecords, type BlobType, DATA, TREE } from './blob-records.ts'
import { idHex } from './ids.ts'
import { encodeIndexFile, INDEX_FILE_BLOBS } from './index-file.ts'
import { encodePackHeader, packTailBytes } from './pack-header.ts'
import { type FilledPack, PackDigests } from './pack-digests.ts'
import type { TreeMemory } from './pack-memory.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { RepositoryIndex } from './repository-index.ts'
import { IV_BYTES, seal, type SealKey } from './sealing.ts'
import { SlotPool } from './slot-pool.ts'

export type PackWriterParts = {
  readonly files: SealedFiles
  readonly index: Pick<RepositoryIndex, 'add' | 'addPack' | 'setPackId'>
  readonly key: SealKey
  readonly random: (size: number) => Uint8Array
  /** Memory of the packs, shared with the worker threads. */
  readonly buffers: readonly SharedArrayBuffer[]
  readonly trees: TreeMemory
  /** SHA-256 of one or two packs, in their order, off this thread. */
  readonly digest: (packs: readonly FilledPack[]) => Promise<readonly Uint8Array[]>
  /** An index file with these packs was stored; its blobs are in `index` already. */
  readonly onIndexFile: (name: string, packs: readonly number[]) => void
  readonly onFailure: (error: AgentError) => void
}

export type SealedBlob = {
  readonly id: Uint8Array
  readonly sealed: Buffer
  /** 0: stored as it is. */
  readonly uncompressedLength: number
}

type IndexedPack = { readonly number: number; readonly id: Uint8Array; readonly blobs: BlobRecords }
type Pack = {
  readonly number: number
  /** -1: memory of its own, for trees and for a blob larger than a pack. */
  readonly buffer: number
  readonly memory: Buffer
  readonly blobs: BlobRecords
  length: number
}

/**
 * Collects sealed blobs into packs, stores full packs and, after them, index files. Data and trees never share a pack.
 * Appending waits when all buffers are on their way to the backend. Any failure is reported once and then thrown by every call.
 */
export class PackWriter {
  readonly #parts: PackWriterParts
  readonly #free: SlotPool
  readonly #digests: PackDigests
  readonly #open: [Pack | undefined, Pack | undefined] = [undefined, undefined]
  /** Packs not stored yet, by their number in the index. */
  readonly #pending = new Map<number, Pack>()
  readonly #underWay = new Set<Promise<void>>()
  #unindexed: IndexedPack[] = []
  #unindexedBlobs = 0
  #turn: Promise<unknown> = Promise.resolve()
  #failure: AgentError | undefined
  /** Aborted when nobody waits any more for a server that is away: what is on its way is not tried again. */
  readonly #gaveUp = new AbortController()

  constructor(parts: PackWriterParts) {
    this.#parts = parts
    this.#free = new SlotPool(parts.buffers.length)
    this.#digests = new PackDigests(parts.digest)
  }

  /** Puts sealed blobs, copied, one after the other into the open packs of their type and enters them in the index. Together they cost little more than one. */
  append(type: BlobType, blobs: readonly SealedBlob[]): Promise<void> {
    const turn = this.#turn.then(() => this.#append(type, blobs))
    // The caller gets the failure; the next in turn finds it in #failure.
    this.#turn = turn.catch((error: unknown) => this.fail(toAgentError(error)))
    return turn
  }

  /** A copy of the sealed bytes of a blob whose pack is not stored yet; undefined when it is. */
  pending(pack: number, offset: number, length: number): Buffer | undefined {
    const found = this.#pending.get(pack)
    return found === undefined ? undefined : Buffer.from(found.memory.subarray(offset, offset + length))
  }

  /** Stores everything: open packs, then the index of all packs not yet in one. */
  async flush(): Promise<void> {
    await this.#turn
    for (const pack of this.#open) if (pack !== undefined) this.#finish(pack)
    await this.#settle()
    // Every pack of before is now either here or in an index file under way.
    this.#writeIndex()
    await this.#settle()
  }

  /** Leaves open packs unwritten, waits for those on their way and indexes them, so that the next run need not store them again. */
  async abandon(): Promise<void> {
    this.#gaveUp.abort()
    await this.#turn
    this.#open.fill(undefined)
    await this.#settle()
    this.#writeIndex()
    await this.#settle()
  }

  fail(error: AgentError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#gaveUp.abort()
    this.#free.fail(error)
    this.#digests.go()
    this.#parts.onFailure(error)
  }

  /** Whether no pack buffer is in use. */
  get unused(): boolean {
    return this.#underWay.size === 0 && this.#open.every((pack) => pack === undefined)
  }

  /** Waits for every store under way, also when one of them failed. */
  async idle(): Promise<void> {
    this.#digests.go()
    while (this.#underWay.size > 0) await Promise.all(this.#underWay)
  }

  /** Waits for what is under way now, not for what other writers begin meanwhile. */
  async #settle(): Promise<void> {
    this.#digests.go()
    await Promise.all(this.#underWay)
    if (this.#failure !== undefined) throw this.#failure
  }

  async #append(type: BlobType, blobs: readonly SealedBlob[]): Promise<void> {
    for (const blob of blobs) {
      if (this.#failure !== undefined) throw this.#failure
      const { length } = blob.sealed
      let pack = this.#open[type]
      if (pack !== undefined && !fits(pack, length)) {
        this.#finish(pack)
        pack = undefined
      }
      this.#put(type, blob, pack ?? (await this.#begin(type, length)))
    }
  }

  #put(type: BlobType, { id, sealed, uncompressedLength }: SealedBlob, pack: Pack): void {
    const place = { type, offset: pack.length, length: sealed.length, uncompressedLength }
    // `copy` rather than `set`, which moves shared memory word by word.
    sealed.copy(pack.memory, pack.length)
    pack.length += sealed.length
    pack.blobs.add(id, place)
    this.#parts.index.add(id, place, pack.number)
  }

  async #begin(type: BlobType, room: number): Promise<Pack> {
    const least = room + packTailBytes(1)
    const own = type === TREE || least > (this.#parts.buffers[0]?.byteLength ?? 0)
    // Whoever waits for memory must not wait for a pack that waits for the next one to be full.
    if (!own && !this.#free.any) this.#digests.go()
    const buffer = own ? -1 : await this.#free.acquire()
    const shared = this.#parts.buffers[buffer]
    const memory = shared === undefined ? this.#parts.trees.take(least) : Buffer.from(shared)
    const pack: Pack = { number: this.#parts.index.addPack(), buffer, memory, blobs: new BlobRecords(), length: 0 }
    this.#open[type] = pack
    this.#pending.set(pack.number, pack)
    return pack
  }

  #finish(pack: Pack): void {
    if (this.#open[DATA] === pack) this.#open[DATA] = undefined
    if (this.#open[TREE] === pack) this.#open[TREE] = undefined
    this.#track(this.#store(pack))
  }

  async #store(pack: Pack): Promise<void> {
    const { files, key, random, index } = this.#parts
    const header = seal(key, random(IV_BYTES), encodePackHeader(pack.blobs))
    pack.memory.set(header, pack.length)
    pack.memory.writeUInt32LE(header.length, pack.length + header.length)
    const bytes = pack.memory.subarray(0, pack.length + header.length + 4)
    const id = pack.buffer < 0 ? hash('sha256', bytes, 'buffer') : await this.#digests.of({ buffer: pack.buffer, length: bytes.length })
    await files.backend.save({ kind: 'data', name: idHex(id) }, bytes, { lastTry: this.#gaveUp.signal })
    index.setPackId(pack.number, id)
    this.#pending.delete(pack.number)
    if (pack.buffer >= 0) this.#free.release(pack.buffer)
    else this.#parts.trees.give(pack.memory)
    this.#unindexed.push({ number: pack.number, id, blobs: pack.blobs })
    this.#unindexedBlobs += pack.blobs.count
    if (this.#unindexedBlobs >= INDEX_FILE_BLOBS) this.#writeIndex()
  }

  #writeIndex(): void {
    let packs: IndexedPack[] = []
    let blobs = 0
    const write = (): void => {
      if (packs.length > 0) this.#track(this.#saveIndex(packs))
      packs = []
      blobs = 0
    }
    for (const pack of this.#unindexed) {
      if (blobs + pack.blobs.count > INDEX_FILE_BLOBS) write()
      packs.push(pack)
      blobs += pack.blobs.count
    }
    write()
    this.#unindexed = []
    this.#unindexedBlobs = 0
  }

  async #saveIndex(packs: readonly IndexedPack[]): Promise<void> {
    const name = await this.#parts.files.save('index', encodeIndexFile(packs), { lastTry: this.#gaveUp.signal })
    this.#parts.onIndexFile(
      name,
      packs.map(({ number }) => number),
    )
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.fail(toAgentError(error)))
      .finally(() => {
        this.#underWay.delete(tracked)
      })
    this.#underWay.add(tracked)
  }
}

const fits = (pack: Pack, length: number): boolean => pack.length + length + packTailBytes(pack.blobs.count + 1) <= pack.memory.length
