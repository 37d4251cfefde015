import { type Abortable, AgentError, formatBytes, type Log, throwIfAborted, toAgentError } from '../core/index.ts'
import { DATA, TREE } from './blob-records.ts'
import type { BlockPipeline, BlockSlot, StoredBlock } from './block-pipeline.ts'
import { idHex } from './ids.ts'
import type { RepositoryWriter, WriterStats } from './repository.ts'
import type { RepositoryLock } from './repository-lock.ts'
import { MOST_BLOCKS } from './seal-tasks.ts'
import type { SealedFiles } from './sealed-files.ts'
import { encodeSnapshot, type Snapshot } from './snapshot.ts'
import { encodeTree, LARGE_TREE_BYTES, type TreeNode } from './tree.ts'
import type { WriteEngine } from './write-engine.ts'

const MAX_BLOB_BYTES = 8 * 1024 * 1024

export type SnapshotWriterParts = {
  readonly engine: WriteEngine
  readonly lock: RepositoryLock
  readonly files: SealedFiles
  readonly log: Log
  /** Called before everything is made durable; what it returns, after. */
  readonly completing: () => () => Promise<void>
  /** Gives the shared engine back; `sound` when everything of this writer is durable and indexed. Called once. */
  readonly onEnd: (sound: boolean) => Promise<void>
}

/** One writer of a repository: its own lock and its own share of the engine. */
export class SnapshotWriter implements RepositoryWriter, BlockPipeline {
  readonly signal: AbortSignal
  readonly #parts: SnapshotWriterParts
  readonly #ended = new AbortController()
  /** Slots given out and neither submitted nor released: given back at the end whoever forgot them. */
  readonly #held = new Map<BlockSlot, number>()
  readonly #signals = new WeakMap<AbortSignal, AbortSignal>()
  #newBlobs = 0
  #storedBytes = 0
  #knownBlobs = 0
  #open = true

  constructor(parts: SnapshotWriterParts) {
    this.#parts = parts
    this.signal = AbortSignal.any([parts.engine.failed, parts.lock.signal, this.#ended.signal])
  }

  get blocks(): BlockPipeline {
    return this
  }

  get slotBytes(): number {
    return this.#parts.engine.blockSize
  }

  get slots(): number {
    return this.#parts.engine.slots
  }

  async acquire(options?: Abortable): Promise<BlockSlot> {
    this.#check()
    const number = await this.#parts.engine.acquire({ signal: this.#with(options?.signal) })
    const slot: BlockSlot = { bytes: this.#parts.engine.bytes(number), release: () => this.#release(slot) }
    if (this.#open) this.#held.set(slot, number)
    else this.#parts.engine.release(number)
    this.#check()
    return slot
  }

  async submit(slot: BlockSlot, length: number): Promise<StoredBlock> {
    const [stored] = await this.submitBlocks(slot, [length])
    if (stored === undefined) throw new AgentError('INTERNAL', 'A block was submitted and nothing became of it.')
    return stored
  }

  submitBlocks(slot: BlockSlot, lengths: readonly number[]): Promise<readonly StoredBlock[]> {
    const stored = this.#submit(slot, lengths)
    // A caller that stops at a failed `acquire` never looks at the blocks it has under way. Their failure is not lost: `signal` carries
    // it and `commit` throws it.
    stored.catch(() => undefined)
    return stored
  }

  async #submit(slot: BlockSlot, lengths: readonly number[]): Promise<readonly StoredBlock[]> {
    const number = this.#held.get(slot)
    if (number === undefined) throw new AgentError('INTERNAL', 'A slot was submitted that this writer did not give out, or twice.')
    if (lengths.length < 1 || lengths.length > MOST_BLOCKS)
      throw new AgentError('INTERNAL', `${lengths.length} blocks were given in one slot.`)
    for (const length of lengths) this.#checkLength(length)
    this.#checkLength(lengths.reduce((sum, length) => sum + length, 0))
    this.#check()
    this.#held.delete(slot)
    const stored = await this.#parts.engine.submit(number, lengths)
    for (const block of stored) this.#count(block)
    return stored
  }

  async zero(length: number): Promise<StoredBlock> {
    this.#checkLength(length)
    this.#check()
    return this.#count(await this.#parts.engine.zero(length))
  }

  async saveBlob(bytes: Uint8Array): Promise<{ readonly id: Uint8Array; readonly storedBytes: number }> {
    if (bytes.length === 0 || bytes.length > MAX_BLOB_BYTES) {
      throw new AgentError('INTERNAL', `A blob of ${bytes.length} bytes was given; it must have 1 byte to 8 MiB.`)
    }
    this.#check()
    return this.#count(await this.#parts.engine.save(DATA, bytes))
  }

  async saveTree(nodes: readonly TreeNode[]): Promise<string> {
    this.#check()
    const json = encodeTree(nodes)
    if (json.length > LARGE_TREE_BYTES) {
      this.#parts.log.warn('A directory with a very large list is stored; every program that reads it holds it whole in memory.', {
        size: formatBytes(json.length),
        entries: nodes.length,
      })
    }
    const { id } = this.#count(await this.#parts.engine.save(TREE, json))
    return idHex(id)
  }

  async commit(snapshot: Snapshot, options?: Abortable): Promise<string> {
    const json = encodeSnapshot(snapshot)
    this.#check()
    if (this.#held.size > 0)
      throw new AgentError('INTERNAL', `${this.#held.size} blocks were neither submitted nor released before commit.`)
    const completed = this.#parts.completing()
    await this.#parts.engine.flush()
    throwIfAborted(options)
    await this.#parts.lock.verify(options)
    this.#check()
    const id = await this.#parts.files.save('snapshot', json)
    // Side by side: others need not wait for the lock until this proxy's own cache is written.
    await Promise.all([completed(), this.#endSaved(id)])
    return id
  }

  /** The snapshot is there for good; a lock whose removal failed stays recorded and is removed later. */
  async #endSaved(snapshot: string): Promise<void> {
    try {
      await this.#end(true)
    } catch (error) {
      const reason = toAgentError(error).message
      this.#parts.log.warn('A snapshot was saved, but its lock could not be removed.', { snapshot, reason })
    }
  }

  stats(): WriterStats {
    return { newBlobs: this.#newBlobs, storedBytes: this.#storedBytes, knownBlobs: this.#knownBlobs }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end(false)
  }

  async #end(sound: boolean): Promise<void> {
    if (!this.#open) return
    this.#open = false
    if (!sound) this.#ended.abort(new AgentError('CANCELED', 'The writer was closed before its snapshot was committed.'))
    for (const slot of this.#held.keys()) this.#release(slot)
    try {
      await this.#parts.onEnd(sound)
    } finally {
      await this.#parts.lock[Symbol.asyncDispose]()
    }
  }

  #release(slot: BlockSlot): void {
    const number = this.#held.get(slot)
    if (number !== undefined && this.#held.delete(slot)) this.#parts.engine.release(number)
  }

  #check(): void {
    if (!this.#open && !this.#ended.signal.aborted) throw new AgentError('INTERNAL', 'The writer is used after its snapshot was committed.')
    throwIfAborted(this)
  }

  /** One composite signal a caller's signal, not one a block. */
  #with(signal: AbortSignal | undefined): AbortSignal {
    if (signal === undefined) return this.signal
    const known = this.#signals.get(signal)
    if (known !== undefined) return known
    const both = AbortSignal.any([signal, this.signal])
    this.#signals.set(signal, both)
    return both
  }

  #checkLength(length: number): void {
    if (!Number.isInteger(length) || length < 1 || length > this.slotBytes) {
      throw new AgentError('INTERNAL', `A block of ${length} bytes was given; it must have 1 to ${this.slotBytes}.`)
    }
  }

  #count<T extends { readonly storedBytes: number }>(stored: T): T {
    if (stored.storedBytes === 0) this.#knownBlobs++
    else this.#newBlobs++
    this.#storedBytes += stored.storedBytes
    return stored
  }
}
