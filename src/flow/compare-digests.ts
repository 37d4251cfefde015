import { hash } from 'node:crypto'
import { type Abortable, AgentError, type BlockSource, type Range, rangeEnd } from '../core/index.ts'
import type { ParentDigests } from '../provider/index.ts'
import type { BlockDigest } from '../transport/index.ts'
import { AreaList } from './area-list.ts'

const DIGEST_BYTES = 32
/** Digests of the parent looked up at once. */
const WINDOW = 512
/** Of the blocks found unchanged, the first and one of so many are read as well. */
const SAMPLE = 1024

/** A disk whose blocks are hashed where it is. */
export type DigestedDisk = {
  readonly source: BlockSource
  readonly digests: (range: Range, blockSize: number, options?: Abortable) => AsyncIterable<BlockDigest>
}

export type Comparison = {
  /** Blocks that differ from the parent's, or were left undecided. */
  readonly areas: AreaList
  /** Bytes hashed at the far side. */
  readonly digestedBytes: number
  /** Bytes that were read to check digests. */
  readonly sampledBytes: number
}

/**
 * Goes over a disk and its parent's image block by block and tells where they differ. Equal means equal SHA-256 of whole blocks. Samples of what is
 * found equal are read and hashed here, so that a program that hashes something else is found out.
 * Errors: those of both sides; INTEGRITY for an answer that does not fit its question. After an error nothing of it may be used.
 */
export async function compareDigests(
  { source, digests }: DigestedDisk,
  parent: ParentDigests,
  options: Abortable & { readonly onProgress?: ((doneBytes: number) => void) | undefined } = {},
): Promise<Comparison> {
  const { blockSize } = parent
  const abortable = { signal: options.signal }
  const areas = new AreaList()
  const blocks = Math.ceil(source.size / blockSize)
  let digestedBytes = 0
  let sampledBytes = 0
  let equal = 0
  let next = 0
  let known: Uint8Array = new Uint8Array(0)
  for await (const block of digests({ offset: 0, length: source.size }, blockSize, abortable)) {
    const wanted = { offset: next * blockSize, length: Math.min(blockSize, source.size - next * blockSize) }
    if (next >= blocks || block.offset !== wanted.offset || block.length !== wanted.length) throw misplaced(block, wanted)
    const inWindow = next % WINDOW
    if (inWindow === 0) known = await parent.of(next, Math.min(WINDOW, blocks - next), abortable)
    const before = known.subarray(inWindow * DIGEST_BYTES, (inWindow + 1) * DIGEST_BYTES)
    const now = digestOf(block)
    if (block.kind === 'digest') digestedBytes += block.length
    if (now === undefined || Buffer.compare(now, before) !== 0) areas.add(wanted)
    else if (block.kind === 'digest' && equal++ % SAMPLE === 0) {
      await check(source, block, now, abortable)
      sampledBytes += block.length
    }
    next++
    options.onProgress?.(rangeEnd(block))
  }
  if (next !== blocks) throw new AgentError('INTEGRITY', `Digests came for ${next} of ${blocks} blocks.`)
  return { areas, digestedBytes, sampledBytes }
}

/** Undefined: not known. */
function digestOf(block: BlockDigest): Uint8Array | undefined {
  if (block.kind === 'undecided') return undefined
  if (block.kind === 'zero') return zeroDigest(block.length)
  if (block.sha256.length !== DIGEST_BYTES) {
    throw new AgentError('INTEGRITY', `The digest of byte ${block.offset} has ${block.sha256.length} bytes instead of ${DIGEST_BYTES}.`)
  }
  return block.sha256
}

/** A whole block, and the disk's last one. */
const zeroDigests = new Map<number, Uint8Array>()

function zeroDigest(length: number): Uint8Array {
  let digest = zeroDigests.get(length)
  if (digest === undefined) {
    digest = hash('sha256', Buffer.alloc(length), 'buffer')
    if (zeroDigests.size < 64) zeroDigests.set(length, digest)
  }
  return digest
}

async function check(source: BlockSource, { offset, length }: Range, told: Uint8Array, options: Abortable): Promise<void> {
  const bytes = Buffer.allocUnsafe(length)
  await source.read(offset, bytes, options)
  if (Buffer.compare(hash('sha256', bytes, 'buffer'), told) === 0) return
  throw new AgentError('INTEGRITY', `The block at byte ${offset} was read for a check and has another digest than was told.`)
}

const misplaced = (block: Range, wanted: Range): AgentError =>
  new AgentError(
    'INTEGRITY',
    `A digest came for ${block.length} bytes at ${block.offset}, where ${Math.max(0, wanted.length)} at ${wanted.offset} were asked for.`,
  )
