import { hash } from 'node:crypto'
import { type Abortable, AgentError, type Clock, isZero, toAgentError } from '../core/index.ts'
import { type BlobType, DATA } from './blob-records.ts'
import type { StoredBlock } from './block-pipeline.ts'
import { CompressionLevel } from './compression.ts'
import { idHex } from './ids.ts'
import { KnownShare } from './known-share.ts'
import { PackWriter } from './pack-writer.ts'
import type { RepositoryIndex } from './repository-index.ts'
import type { SealedBlock, SealPool } from './seal-pool.ts'
import type { SealedFiles } from './sealed-files.ts'
import { IV_BYTES, SEAL_OVERHEAD, type SealKey, sealInPlace } from './sealing.ts'
import { SlotPool } from './slot-pool.ts'
import type { WriteMemory, WriteSettings } from './write-memory.ts'
import { zeroBlockId } from './zero-block.ts'
import type { ZstdCodec } from './zstd-codec.ts'

type HashedBlocks = { readonly ids: readonly Uint8Array[]; readonly seal: (fresh: readonly number[]) => Promise<readonly SealedBlock[]> }
const NOTHING: SealedBlock = Object.freeze({ sealed: Buffer.alloc(0), uncompressedLength: 0 })

export type WriteEngineParts = {
  readonly files: SealedFiles
  readonly index: RepositoryIndex
  /** After a look-up in the index threw: resolves when it may be tried again, throws when it was something else. */
  readonly mend: (error: unknown) => Promise<void>
  readonly key: SealKey
  readonly random: (size: number) => Uint8Array
  /** For what is compressed on this thread: trees and small files. */
  readonly codec: ZstdCodec
  readonly settings: WriteSettings
  readonly clock: Clock
  /** Nobody else's, until the engine is closed. */
  readonly memory: WriteMemory
  readonly onIndexFile: (name: string, packs: readonly number[]) => void
}

/**
 * What the writers of one repository share: worker threads, slots, open packs and the index, so that a block two of them store at the
 * same time is stored once. The first failure fails it for good: `failed` aborts, everything under way and later throws that error.
 */
export class WriteEngine {
  readonly slots: number
  readonly blockSize: number
  readonly #parts: WriteEngineParts
  readonly #pool: SealPool
  readonly #free: SlotPool
  readonly #level: CompressionLevel
  readonly #known = new KnownShare()
  readonly #packs: PackWriter
  readonly #failed = new AbortController()
  /** Blobs between the look-up and the pack. */
  readonly #underWay = new Set<string>()

  constructor(parts: WriteEngineParts) {
    const { memory } = parts
    this.#parts = parts
    this.blockSize = parts.settings.blockSize
    this.slots = memory.slots
    this.#free = new SlotPool(this.slots)
    this.#pool = memory.pool
    this.#level = new CompressionLevel(parts.settings.compression, parts)
    memory.use((error) => this.fail(error))
    this.#packs = new PackWriter({
      files: parts.files,
      index: parts.index,
      key: parts.key,
      random: parts.random,
      buffers: memory.packs,
      trees: memory.trees,
      digest: (packs) => this.#pool.digest(packs),
      onIndexFile: parts.onIndexFile,
      onFailure: (error) => this.fail(error),
    })
  }

  /** Aborts with the first failure. */
  get failed(): AbortSignal {
    return this.#failed.signal
  }

  get memory(): WriteMemory {
    return this.#parts.memory
  }

  acquire(options?: Abortable): Promise<number> {
    return this.#free.acquire(options)
  }

  release(slot: number): void {
    this.#free.release(slot)
  }

  bytes(slot: number): Uint8Array {
    return this.#pool.plain(slot)
  }

  /** Takes the filled slot over and gives it back when its blocks, which stand one after the other, are in a pack. */
  async submit(slot: number, lengths: readonly number[]): Promise<readonly StoredBlock[]> {
    try {
      const data: number[] = []
      const stored: StoredBlock[] = []
      let at = 0
      for (const [block, length] of lengths.entries()) {
        // Memory speed for zeros and a few bytes for data, so it is not worth a message to a thread.
        if (isZero(this.#pool.plain(slot).subarray(at, at + length))) stored[block] = await this.zero(length)
        else data.push(block)
        at += length
      }
      if (data.length === 0) return stored
      const { ids, seal } = await this.#hash(slot, lengths, data)
      const sizes = await this.#storeOnce(ids, async (fresh) => {
        const sealed = await seal(fresh)
        const blobs = fresh.map((index, number) => ({ id: ids[index] ?? new Uint8Array(), ...(sealed[number] ?? NOTHING) }))
        await this.#packs.append(DATA, blobs)
        return sealed.map(({ sealed: bytes }) => bytes.length)
      })
      this.#known.count(sizes)
      for (const [index, block] of data.entries())
        stored[block] = { id: ids[index] ?? new Uint8Array(), storedBytes: sizes[index] ?? 0, zero: false }
      return stored
    } finally {
      this.#free.release(slot)
    }
  }

  /** Ids of the `data` blocks of a slot, and how to come to those sealed that are new: while most are, they are sealed already. */
  async #hash(slot: number, lengths: readonly number[], data: readonly number[]): Promise<HashedBlocks> {
    if (this.#known.few) {
      const { ids, sealed } = await this.#pool.store(slot, lengths, data, this.#level.now())
      return { ids, seal: (fresh) => Promise.resolve(fresh.map((index) => sealed[index] ?? NOTHING)) }
    }
    const ids = await this.#pool.hash(slot, lengths, data)
    const blocks = (fresh: readonly number[]): readonly number[] => fresh.map((index) => data[index] ?? 0)
    return { ids, seal: (fresh) => this.#pool.seal(slot, lengths, blocks(fresh), this.#level.now()) }
  }

  /** Stores the block of `length` zeros unless it is known. */
  async zero(length: number): Promise<StoredBlock> {
    const id = Uint8Array.from(zeroBlockId(length))
    const storedBytes = await this.#once(DATA, id, () => this.#sealHere(DATA, id, Buffer.alloc(length)))
    return { id, storedBytes, zero: true }
  }

  /** Stores a blob from this thread unless it is known. */
  async save(type: BlobType, bytes: Uint8Array): Promise<{ readonly id: Uint8Array; readonly storedBytes: number }> {
    const id = Uint8Array.from(hash('sha256', bytes, 'buffer'))
    return { id, storedBytes: await this.#once(type, id, () => this.#sealHere(type, id, bytes)) }
  }

  /** Sealed bytes of a blob in a pack that is not stored yet. */
  pending(pack: number, offset: number, length: number): Buffer | undefined {
    return this.#packs.pending(pack, offset, length)
  }

  /** Everything stored so far is durable and indexed when this resolves. */
  flush(): Promise<void> {
    return this.#packs.flush()
  }

  fail(error: AgentError): void {
    if (this.#failed.signal.aborted) return
    this.#failed.abort(error)
    this.#free.fail(error)
    this.#packs.fail(error)
  }

  /**
   * `keep`: index the packs already stored; never after a failure or a lost lock. True when all memory is free, so that another engine may have it; otherwise no
   * thread works in it any more.
   */
  async close(keep: boolean): Promise<boolean> {
    let atRest = false
    try {
      if (keep && !this.#failed.signal.aborted) {
        await this.#packs.abandon()
        atRest = this.#free.whole && this.#packs.unused
      }
    } finally {
      const closed = new AgentError('CANCELED', 'The writer of the repository was closed.')
      this.fail(closed)
      if (!atRest) await this.#parts.memory[Symbol.asyncDispose]()
      await this.#packs.idle()
    }
    return atRest
  }

  /** Runs `store` unless the blob is known or just being stored; 0 when it was. */
  async #once(type: BlobType, id: Uint8Array, store: () => Promise<number>): Promise<number> {
    const [size = 0] = await this.#storeOnce([id], async () => [await store()], type)
    return size
  }

  /**
   * Runs `store` for those of the blobs that are neither known nor just being stored, by their place in `ids`; it answers with what each of them takes.
   * Bytes added for each blob; 0 for those that were known.
   */
  async #storeOnce(
    ids: readonly Uint8Array[],
    store: (fresh: readonly number[]) => Promise<readonly number[]>,
    type: BlobType = DATA,
  ): Promise<readonly number[]> {
    if (this.#failed.signal.aborted) throw this.#failed.signal.reason
    const sizes = ids.map(() => 0)
    const { fresh, names } = await this.#take(ids, type)
    if (fresh.length === 0) return sizes
    try {
      for (const [number, size] of (await store(fresh)).entries()) sizes[fresh[number] ?? 0] = size
      return sizes
    } catch (error) {
      // Whoever found one of these under way relies on it, so that its failure is everybody's.
      this.fail(toAgentError(error))
      throw this.#failed.signal.reason
    } finally {
      for (const name of names) this.#underWay.delete(name)
    }
  }

  /** Those of the blobs that are neither known nor just being stored: they are now. */
  async #take(
    ids: readonly Uint8Array[],
    type: BlobType,
  ): Promise<{ readonly fresh: readonly number[]; readonly names: readonly string[] }> {
    for (;;) {
      const fresh: number[] = []
      const names: string[] = []
      try {
        for (const [index, id] of ids.entries()) {
          const name = `${type}${idHex(id)}`
          if (this.#underWay.has(name) || this.#parts.index.has(type, id)) continue
          this.#underWay.add(name)
          names.push(name)
          fresh.push(index)
        }
        return { fresh, names }
      } catch (error) {
        for (const name of names) this.#underWay.delete(name)
        await this.#parts.mend(error)
      }
    }
  }

  async #sealHere(type: BlobType, id: Uint8Array, bytes: Uint8Array): Promise<number> {
    const region = Buffer.allocUnsafeSlow(bytes.length + Math.ceil(bytes.length / 128) + 1024 + SEAL_OVERHEAD)
    const compressed = this.#parts.codec.compress(bytes, region.subarray(IV_BYTES))
    if (compressed === undefined) region.set(bytes, IV_BYTES)
    const sealed = sealInPlace(this.#parts.key, this.#parts.random(IV_BYTES), region, compressed ?? bytes.length)
    await this.#packs.append(type, [{ id, sealed, uncompressedLength: compressed === undefined ? 0 : bytes.length }])
    return sealed.length
  }
}
