import PQueue from 'p-queue'
import { type Abortable, type BlockSource, type Range, totalLength } from '../core/index.ts'
import { BlobIds, type BlobReader, type BlockSlot, type RepositoryWriter, type TreeNode, zeroBlockId } from '../restic/index.ts'
import { BLOCK_SIZE, EXTENT_FILE, extentDirectory, type ImageLayout } from './image-layout.ts'
import { InFlight } from './in-flight.ts'
import type { DiskPlan, DiskProgress, DiskWritten } from './provider.ts'
import type { ParentImage } from './restic-parent-image.ts'
import { type Piece, type TouchedBlock, touchedBlocks } from './touched-blocks.ts'

/** Extents whose blocks are all handed over but whose trees are not saved yet; each holds its list of ids. */
const MOST_FINISHING = 4
/** Parent blocks opened at once. Each takes three times its size while it is decrypted and decompressed, on this thread: more would only wait. */
const PARENT_READS = 2
/** What a sealed block may have beyond its bytes. */
const SEAL_ROOM = 4096

export type ImageJob = {
  readonly source: BlockSource
  readonly plan: DiskPlan
  readonly layout: ImageLayout
  /** Incremental only. */
  readonly parent: ParentImage | undefined
  /** Attributes of the nodes to make. */
  readonly node: (name: string) => Pick<TreeNode, 'name' | 'mtime' | 'mode'>
  /** Name of the flat file (one extent) or of the directory of extents. */
  readonly name: string
}

type OpenExtent = {
  readonly index: number
  readonly size: number
  readonly ids: BlobIds
  /** The parent's ids before any was replaced; undefined on a full. */
  readonly parentIds: BlobIds | undefined
  readonly blocks: InFlight
}

/**
 * Writes one disk's image: blocks through the pipeline as many at once as it has slots, each extent's tree as soon as its last block is
 * stored. Memory: the pipeline's slots and the ids of a few extents. Used once.
 */
export class ResticImageWriter {
  readonly #writer: RepositoryWriter
  readonly #blobs: BlobReader
  readonly #job: ImageJob
  readonly #options: Abortable
  readonly #onProgress: ((progress: DiskProgress) => void) | undefined
  readonly #finishing: Promise<void>[] = []
  readonly #nodes: TreeNode[]
  readonly #work = new InFlight()
  readonly #parentReads = new PQueue({ concurrency: PARENT_READS })
  /** One for each of them: a fresh MiB for every block would be garbage faster than it is collected. */
  readonly #scratch: Buffer[] = []
  /** Trees of extents that hold nothing, by size: a thin disk has many. */
  readonly #emptyTrees = new Map<number, Promise<string>>()
  #changedBytes = 0
  #doneBytes = 0
  #readBytes = 0
  #storedBytes = 0

  constructor(
    writer: RepositoryWriter,
    blobs: BlobReader,
    job: ImageJob,
    options: Abortable & { readonly onProgress?: ((progress: DiskProgress) => void) | undefined },
  ) {
    this.#writer = writer
    this.#blobs = blobs
    this.#job = job
    this.#options = { signal: options.signal }
    this.#onProgress = options.onProgress
    this.#nodes = Array.from({ length: job.layout.count })
  }

  /** The node that stands for the image in the VM directory, and what it took. */
  async write(): Promise<DiskWritten & { readonly node: TreeNode }> {
    try {
      await this.#writeExtents()
    } catch (error) {
      // Slots come back only from work that has ended, and the source must not be closed under a read.
      await this.#work.settled()
      throw error
    }
    const written = { changedBytes: this.#changedBytes, readBytes: this.#readBytes, storedBytes: this.#storedBytes }
    const [single] = this.#nodes
    if (this.#job.layout.extentBytes === undefined && single !== undefined) return { ...written, node: single }
    const subtree = await this.#writer.saveTree(this.#nodes)
    return { ...written, node: { ...this.#job.node(this.#job.name), type: 'dir', mode: 0o700, subtree } }
  }

  async #writeExtents(): Promise<void> {
    const { source, plan, layout } = this.#job
    const perExtent = (layout.extentBytes ?? layout.size) / BLOCK_SIZE
    let extent: OpenExtent | undefined
    const blocks = touchedBlocks(this.#counted(plan.ranges), source, BLOCK_SIZE, {
      ...this.#options,
      onlyData: plan.mode === 'full',
      onDecided: (bytes) => this.#progress(bytes),
    })
    for await (const block of blocks) {
      this.#work.throwIfFailed()
      const index = layout.extentBytes === undefined ? 0 : Math.floor(block.index / perExtent)
      if (extent === undefined || extent.index !== index) {
        await this.#finish(extent)
        for (let untouched = (extent?.index ?? -1) + 1; untouched < index; untouched++) await this.#keep(untouched)
        extent = await this.#open(index)
      }
      await this.#store(block, extent)
    }
    await this.#finish(extent)
    for (let untouched = (extent?.index ?? -1) + 1; untouched < layout.count; untouched++) await this.#keep(untouched)
    await this.#work.done()
  }

  async #open(index: number): Promise<OpenExtent> {
    const size = this.#job.layout.sizeOf(index)
    const parentIds = await this.#job.parent?.contentOf(index, this.#options)
    return { index, size, parentIds, ids: parentIds?.copy() ?? zeroIds(size), blocks: new InFlight() }
  }

  async #store(block: TouchedBlock, extent: OpenExtent): Promise<void> {
    const start = block.index * BLOCK_SIZE - this.#job.layout.startOf(extent.index)
    const at = start / BLOCK_SIZE
    const length = Math.min(BLOCK_SIZE, extent.size - start)
    const decided = totalLength(block.pieces)
    if (decided === length && block.pieces.every((piece) => piece.kind === 'zero')) {
      extent.ids.set(at, zeroBlockId(length))
      this.#progress(decided)
      return
    }
    const slot = await this.#writer.blocks.acquire(this.#options)
    const stored = this.#submit(slot, block, extent, at, length)
    extent.blocks.add(stored)
    this.#work.add(stored)
  }

  async #submit(slot: BlockSlot, block: TouchedBlock, extent: OpenExtent, at: number, length: number): Promise<void> {
    await this.#fill(slot, block, length, extent.parentIds?.at(at))
    const { id, storedBytes } = await this.#writer.blocks.submit(slot, length)
    extent.ids.set(at, id)
    this.#storedBytes += storedBytes
    this.#progress(totalLength(block.pieces))
  }

  async #fill(slot: BlockSlot, block: TouchedBlock, length: number, parentId: Uint8Array | undefined): Promise<void> {
    try {
      const bytes = slot.bytes.subarray(0, length)
      if (totalLength(block.pieces) < length) await this.#parentReads.add(() => this.#background(bytes, parentId))
      for (const piece of block.pieces) await this.#piece(piece, bytes, block.index * BLOCK_SIZE)
    } catch (error) {
      slot.release()
      throw error
    }
  }

  /** What the block held before: the parent's bytes, or zeros. */
  async #background(bytes: Uint8Array, parentId: Uint8Array | undefined): Promise<void> {
    if (parentId === undefined || Buffer.compare(parentId, zeroBlockId(bytes.length)) === 0) {
      bytes.fill(0)
      return
    }
    const scratch = this.#scratch.pop() ?? Buffer.allocUnsafeSlow(BLOCK_SIZE + SEAL_ROOM)
    try {
      await this.#blobs.readInto(parentId, bytes, scratch, this.#options)
    } finally {
      this.#scratch.push(scratch)
    }
  }

  async #piece(piece: Piece, block: Uint8Array, blockStart: number): Promise<void> {
    const part = block.subarray(piece.offset - blockStart, piece.offset - blockStart + piece.length)
    if (piece.kind === 'zero') {
      part.fill(0)
      return
    }
    await this.#job.source.read(piece.offset, part, this.#options)
    this.#readBytes += piece.length
  }

  /** An extent no range of the plan touches: as in the parent, or empty. */
  async #keep(index: number): Promise<void> {
    const { parent, layout } = this.#job
    if (parent !== undefined) {
      this.#nodes[index] = await parent.reuse(index, this.#options)
      return
    }
    const size = layout.sizeOf(index)
    if (layout.extentBytes === undefined) {
      await this.#finish({ index, size, ids: zeroIds(size), parentIds: undefined, blocks: new InFlight() })
      return
    }
    let tree = this.#emptyTrees.get(size)
    if (tree === undefined) {
      tree = this.#saveExtent({ size, ids: zeroIds(size) })
      this.#emptyTrees.set(size, tree)
    }
    this.#nodes[index] = this.#extentNode(index, await tree)
  }

  /** Saves the extent behind the reader's back, once its last block is stored. */
  async #finish(extent: OpenExtent | undefined): Promise<void> {
    if (extent === undefined) return
    if (this.#finishing.length >= MOST_FINISHING) await this.#finishing.shift()
    this.#work.throwIfFailed()
    const saved = this.#save(extent)
    this.#work.add(saved)
    // Failures are reported through #work; here only the end matters.
    this.#finishing.push(saved.catch(() => undefined))
  }

  async #save(extent: OpenExtent): Promise<void> {
    await extent.blocks.done()
    const { layout, name, node } = this.#job
    if (layout.extentBytes === undefined) {
      await this.#saveZeros(extent)
      this.#nodes[0] = { ...node(name), type: 'file', mode: 0o600, size: extent.size, content: extent.ids }
    } else {
      this.#nodes[extent.index] = this.#extentNode(extent.index, await this.#saveExtent(extent))
    }
  }

  async #saveExtent(extent: { readonly size: number; readonly ids: BlobIds }): Promise<string> {
    await this.#saveZeros(extent)
    return this.#writer.saveTree([{ ...this.#job.node(EXTENT_FILE), type: 'file', mode: 0o600, size: extent.size, content: extent.ids }])
  }

  /** Blocks of zeros are set by their known ids; the blob itself is stored when the first list that names it is. */
  async #saveZeros(extent: { readonly size: number; readonly ids: BlobIds }): Promise<void> {
    for (const length of new Set([Math.min(BLOCK_SIZE, extent.size), tailLength(extent.size)])) {
      const zero = zeroBlockId(length)
      for (const id of extent.ids) {
        if (Buffer.compare(id, zero) !== 0) continue
        this.#storedBytes += (await this.#writer.blocks.zero(length)).storedBytes
        break
      }
    }
  }

  #extentNode(index: number, subtree: string): TreeNode {
    return { ...this.#job.node(extentDirectory(index)), type: 'dir', mode: 0o700, subtree }
  }

  async *#counted(ranges: AsyncIterable<Range>): AsyncGenerator<Range> {
    for await (const range of ranges) {
      this.#changedBytes += range.length
      yield range
    }
  }

  #progress(bytes: number): void {
    this.#doneBytes += bytes
    this.#onProgress?.({ doneBytes: this.#doneBytes, readBytes: this.#readBytes, storedBytes: this.#storedBytes })
  }
}

const tailLength = (size: number): number => size % BLOCK_SIZE || BLOCK_SIZE

function zeroIds(size: number): BlobIds {
  const ids = new BlobIds(Math.ceil(size / BLOCK_SIZE))
  const whole = zeroBlockId(Math.min(BLOCK_SIZE, size))
  for (let index = 0; index < ids.length; index++) ids.set(index, whole)
  ids.set(ids.length - 1, zeroBlockId(tailLength(size)))
  return ids
}
