import { type Abortable, type BlockSource, fillWithZeros, type Range, rangeEnd, totalLength } from '../core/index.ts'
import {
  BlobIds,
  type BlobReader,
  type BlockSlot,
  type BlockToRead,
  type Complete,
  type Repository,
  type RepositoryWriter,
  type TreeNode,
  zeroBlockId,
} from '../restic/index.ts'
import { EXTENT_FILE, extentDirectory, type ImageLayout } from './image-layout.ts'
import { InFlight } from './in-flight.ts'
import type { DiskPlan, DiskProgress, DiskWritten } from './provider.ts'
import { contentKey, extentKey, type ParentImage } from './restic-parent-image.ts'
import { type Piece, type TouchedBlock, touchedBlocks } from './touched-blocks.ts'

/** Extents whose blocks are all handed over but whose trees are not saved yet; each holds its list of ids. */
const MOST_FINISHING = 4

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

/** Blocks of one extent that share a slot, one after the other in it. */
type Batch = {
  readonly extent: OpenExtent
  readonly blocks: (TouchedBlock & {
    /** Number within the extent. */
    readonly at: number
    readonly length: number
    /** First byte in the slot. */
    readonly slotAt: number
  })[]
  bytes: number
}

/** What fills the blocks of a batch: blobs of the parent, then zeros, then reads of the source. */
type BatchParts = { readonly parents: BlockToRead[]; readonly zeros: Uint8Array[]; readonly reads: SourceRead[] }

/** One read of the source into the slot. */
type SourceRead = { readonly offset: number; readonly slotAt: number; readonly length: number }

/**
 * Writes one disk's image: blocks through the pipeline as many at once as it has slots, each extent's tree as soon as its last block is
 * stored. Memory: the pipeline's slots and the ids of a few extents. Used once.
 */
export class ResticImageWriter {
  readonly #writer: RepositoryWriter
  readonly #blobs: BlobReader
  readonly #complete: Complete
  readonly #job: ImageJob
  readonly #options: Abortable
  readonly #onProgress: ((progress: DiskProgress) => void) | undefined
  readonly #finishing: Promise<void>[] = []
  readonly #nodes: TreeNode[]
  readonly #work = new InFlight()
  #batch: Batch | undefined
  /** Trees of extents that hold nothing, by size: a thin disk has many. */
  readonly #emptyTrees = new Map<number, Promise<string>>()
  #changedBytes = 0
  /** Of the blocks put together so far: what the plan decides of them, and what was read beside that. */
  #decidedBytes = 0
  #aroundBytes = 0
  #doneBytes = 0
  #readBytes = 0
  #storedBytes = 0

  constructor(
    writer: RepositoryWriter,
    { blobs, complete }: Pick<Repository, 'blobs' | 'complete'>,
    job: ImageJob,
    options: Abortable & { readonly onProgress?: ((progress: DiskProgress) => void) | undefined },
  ) {
    this.#writer = writer
    this.#blobs = blobs
    this.#complete = complete
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
    const { blockBytes } = layout
    const perExtent = (layout.extentBytes ?? layout.size) / blockBytes
    let extent: OpenExtent | undefined
    const blocks = touchedBlocks(this.#counted(plan.ranges), source, blockBytes, {
      ...this.#options,
      onlyData: plan.mode === 'full',
      onDecided: (bytes) => this.#progress(bytes),
    })
    for await (const block of blocks) {
      this.#work.throwIfFailed()
      const index = layout.extentBytes === undefined ? 0 : Math.floor(block.index / perExtent)
      if (extent === undefined || extent.index !== index) {
        await this.#hand()
        await this.#finish(extent)
        for (let untouched = (extent?.index ?? -1) + 1; untouched < index; untouched++) await this.#keep(untouched)
        extent = await this.#open(index)
      }
      await this.#store(block, extent)
    }
    await this.#hand()
    await this.#finish(extent)
    for (let untouched = (extent?.index ?? -1) + 1; untouched < layout.count; untouched++) await this.#keep(untouched)
    await this.#work.done()
  }

  async #open(index: number): Promise<OpenExtent> {
    const size = this.#job.layout.sizeOf(index)
    const parentIds = await this.#job.parent?.contentOf(index, this.#options)
    return { index, size, parentIds, ids: parentIds?.copy() ?? this.#zeroIds(size), blocks: new InFlight() }
  }

  async #store(block: TouchedBlock, extent: OpenExtent): Promise<void> {
    const { blockBytes, startOf } = this.#job.layout
    const start = block.index * blockBytes - startOf(extent.index)
    const at = start / blockBytes
    const length = Math.min(blockBytes, extent.size - start)
    const decided = totalLength(block.pieces)
    if (decided === length && block.pieces.every((piece) => piece.kind === 'zero')) {
      extent.ids.set(at, zeroBlockId(length))
      this.#progress(decided)
      return
    }
    if (this.#batch !== undefined && this.#batch.bytes + length > this.#writer.blocks.slotBytes) await this.#hand()
    const batch = (this.#batch ??= { extent, blocks: [], bytes: 0 })
    batch.blocks.push({ ...block, at, length, slotAt: batch.bytes })
    batch.bytes += length
  }

  /** Hands the collected blocks over as soon as there is a slot. */
  async #hand(): Promise<void> {
    const batch = this.#batch
    if (batch === undefined) return
    this.#batch = undefined
    const slot = await this.#writer.blocks.acquire(this.#options)
    const stored = this.#submit(slot, batch)
    batch.extent.blocks.add(stored)
    this.#work.add(stored)
  }

  async #submit(slot: BlockSlot, batch: Batch): Promise<void> {
    await this.#fill(slot, batch)
    const stored = await this.#writer.blocks.submitBlocks(
      slot,
      batch.blocks.map(({ length }) => length),
    )
    for (const [index, { id, storedBytes }] of stored.entries()) {
      const block = batch.blocks[index]
      if (block === undefined) continue
      batch.extent.ids.set(block.at, id)
      this.#storedBytes += storedBytes
      this.#progress(totalLength(block.pieces))
    }
  }

  /** Puts together what the blocks hold: first what they held before, then what the plan decides. */
  async #fill(slot: BlockSlot, batch: Batch): Promise<void> {
    try {
      const parts: BatchParts = { parents: [], zeros: [], reads: [] }
      for (const block of batch.blocks) this.#divide(block, slot.bytes, batch.extent.parentIds?.at(block.at), parts)
      if (parts.parents.length > 0) await this.#blobs.readBlocks(parts.parents, this.#options)
      for (const bytes of parts.zeros) fillWithZeros(bytes)
      for (const { offset, slotAt, length } of parts.reads) {
        await this.#job.source.read(offset, slot.bytes.subarray(slotAt, slotAt + length), this.#options)
        this.#readBytes += length
      }
    } catch (error) {
      slot.release()
      throw error
    }
  }

  /** Where the bytes of a block come from. */
  #divide(block: Batch['blocks'][number], slot: Uint8Array, parentId: Uint8Array | undefined, { parents, zeros, reads }: BatchParts): void {
    const { slotAt, length } = block
    const start = block.index * this.#job.layout.blockBytes
    const bytes = slot.subarray(slotAt, slotAt + length)
    const decided = totalLength(block.pieces)
    this.#decidedBytes += decided
    let { pieces } = block
    if (decided < length) {
      const whole = { offset: start, length }
      if (parentId === undefined || Buffer.compare(parentId, zeroBlockId(length)) === 0) pieces = filledUp(pieces, whole, 'zero')
      else if (this.#mayReadAround(length - decided)) pieces = filledUp(pieces, whole, 'data')
      else parents.push({ id: parentId, into: bytes })
    }
    for (const piece of pieces) {
      const from = piece.offset - start
      if (piece.kind === 'zero') zeros.push(bytes.subarray(from, from + piece.length))
      else addRead(reads, { offset: piece.offset, slotAt: slotAt + from, length: piece.length })
    }
  }

  /** Whether a block is read whole instead of being put together with the parent's: as long as that is no more in all than half of what the plan decides. */
  #mayReadAround(bytes: number): boolean {
    if (this.#job.plan.readAround !== true || this.#aroundBytes + bytes > this.#decidedBytes / 2) return false
    this.#aroundBytes += bytes
    return true
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
      await this.#finish({ index, size, ids: this.#zeroIds(size), parentIds: undefined, blocks: new InFlight() })
      return
    }
    let tree = this.#emptyTrees.get(size)
    if (tree === undefined) {
      tree = this.#saveExtent({ size, ids: this.#zeroIds(size) })
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
      this.#complete.add(contentKey(extent.ids, extent.size, layout))
      this.#nodes[0] = { ...node(name), type: 'file', mode: 0o600, size: extent.size, content: extent.ids }
    } else {
      this.#nodes[extent.index] = this.#extentNode(extent.index, await this.#saveExtent(extent))
    }
  }

  async #saveExtent(extent: { readonly size: number; readonly ids: BlobIds }): Promise<string> {
    await this.#saveZeros(extent)
    const file: TreeNode = { ...this.#job.node(EXTENT_FILE), type: 'file', mode: 0o600, size: extent.size, content: extent.ids }
    const tree = await this.#writer.saveTree([file])
    this.#complete.add(extentKey(tree, extent.size, this.#job.layout))
    return tree
  }

  /** Blocks of zeros are set by their known ids; the blob itself is stored when the first list that names it is. */
  async #saveZeros(extent: { readonly size: number; readonly ids: BlobIds }): Promise<void> {
    const { blockBytes } = this.#job.layout
    for (const length of new Set([Math.min(blockBytes, extent.size), tailLength(extent.size, blockBytes)])) {
      const zero = zeroBlockId(length)
      if (extent.ids.includes(zero)) this.#storedBytes += (await this.#writer.blocks.zero(length)).storedBytes
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

  #zeroIds(size: number): BlobIds {
    const { blockBytes } = this.#job.layout
    const ids = new BlobIds(Math.ceil(size / blockBytes))
    const whole = zeroBlockId(Math.min(blockBytes, size))
    for (let index = 0; index < ids.length; index++) ids.set(index, whole)
    ids.set(ids.length - 1, zeroBlockId(tailLength(size, blockBytes)))
    return ids
  }

  #progress(bytes: number): void {
    this.#doneBytes += bytes
    this.#onProgress?.({ doneBytes: this.#doneBytes, readBytes: this.#readBytes, storedBytes: this.#storedBytes })
  }
}

/** Adds a read, or makes the last one longer when it goes on both on the disk and in the slot. */
function addRead(reads: SourceRead[], read: SourceRead): void {
  const last = reads.at(-1)
  if (last !== undefined && last.offset + last.length === read.offset && last.slotAt + last.length === read.slotAt) {
    reads[reads.length - 1] = { ...last, length: last.length + read.length }
  } else {
    reads.push(read)
  }
}

/** The pieces, and others of this kind wherever they leave something of the block out. */
function filledUp(pieces: readonly Piece[], block: Range, kind: Piece['kind']): readonly Piece[] {
  const filled: Piece[] = []
  let at = block.offset
  for (const piece of pieces) {
    if (piece.offset > at) filled.push({ offset: at, length: piece.offset - at, kind })
    filled.push(piece)
    at = rangeEnd(piece)
  }
  if (at < rangeEnd(block)) filled.push({ offset: at, length: rangeEnd(block) - at, kind })
  return filled
}

const tailLength = (size: number, blockBytes: number): number => size % blockBytes || blockBytes
