import { hash } from 'node:crypto'
import {
  type Abortable,
  AgentError,
  type BlockSource,
  type Extent,
  fromErrno,
  isZero,
  MIB,
  openOutput,
  type Range,
  readU64,
  rangeEnd,
  writeU64,
} from '../core/index.ts'
import type { ByteSource } from '../disk/index.ts'
import { isSound, VerifiedBlocks } from './verified-blocks.ts'

const BLOCK = MIB
/** Block number and SHA-256 (docs/formats/restore-point.md). */
const RECORD = 40

/** Writes the digests of every block of `image` that is not all zeros. Reads only what the image's own map calls data. */
export async function writeBlockDigests(image: BlockSource, path: string, options: Abortable): Promise<void> {
  const block = Buffer.alloc(BLOCK)
  let pending: Buffer[] = []
  try {
    await using file = await openOutput(path, 'wx')
    const flush = async (): Promise<void> => {
      await file.write(Buffer.concat(pending))
      pending = []
    }
    let next = 0
    for await (const extent of image.extents({ offset: 0, length: image.size }, options)) {
      if (extent.kind === 'zero') continue
      for (let index = Math.max(next, Math.floor(extent.offset / BLOCK)); index * BLOCK < rangeEnd(extent); index++) {
        next = index + 1
        const bytes = block.subarray(0, Math.min(BLOCK, image.size - index * BLOCK))
        await image.read(index * BLOCK, bytes, options)
        if (isZero(bytes)) continue
        const record = Buffer.alloc(RECORD)
        writeU64(record, 0, index)
        record.set(hash('sha256', bytes, 'buffer'), 8)
        pending.push(record)
        if (pending.length >= 4096) await flush()
      }
    }
    await flush()
    await file.sync()
  } catch (error) {
    throw fromErrno(error, path) ?? error
  }
}

/** `image` with every block compared with its digest as it is read; what has no digest must be zeros. Owns both. INTEGRITY. */
export async function verifiedByDigests(image: BlockSource, digests: ByteSource, options?: Abortable): Promise<BlockSource> {
  if (digests.size % RECORD !== 0) throw damaged(digests.name, 'is not a list of digests')
  let before = -1
  const chunk = Buffer.alloc(RECORD * 8192)
  for (let at = 0; at < digests.size; at += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, digests.size - at))
    await digests.read(at, part, options)
    for (let inside = 0; inside < part.length; inside += RECORD) {
      const index = readU64(part, inside, 'block number')
      if (index <= before || index * BLOCK >= image.size) throw damaged(digests.name, 'is out of order or leads out of the image')
      before = index
    }
  }
  return new VerifiedImage(image, digests)
}

class VerifiedImage implements BlockSource {
  readonly size: number
  readonly #image: BlockSource
  readonly #digests: ByteSource
  readonly #blocks: VerifiedBlocks

  constructor(image: BlockSource, digests: ByteSource) {
    this.size = image.size
    this.#image = image
    this.#digests = digests
    this.#blocks = new VerifiedBlocks((index, options) => this.#load(index, options))
  }

  async read(offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    if (offset < 0 || offset + into.length > this.size) {
      throw new AgentError('USAGE', `Bytes ${offset} to ${offset + into.length} are outside a disk of ${this.size} bytes.`)
    }
    for (let at = 0; at < into.length; ) {
      const inside = (offset + at) % BLOCK
      const bytes = (await this.#blocks.get(Math.floor((offset + at) / BLOCK), options)).subarray(inside, inside + into.length - at)
      into.set(bytes, at)
      at += bytes.length
    }
  }

  extents(range: Range, options?: Abortable): AsyncIterable<Extent> {
    return this.#image.extents(range, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using _digests = this.#digests
    await this.#image[Symbol.asyncDispose]()
  }

  async #load(index: number, options?: Abortable): Promise<Uint8Array> {
    const block = Buffer.allocUnsafeSlow(Math.min(BLOCK, this.size - index * BLOCK))
    await this.#image.read(index * BLOCK, block, options)
    const digest = await this.#digestOf(index, options)
    if (digest === undefined ? !isZero(block) : !isSound(block, digest))
      throw damaged(this.#digests.name, `does not fit block ${index} of its image`)
    return block
  }

  async #digestOf(index: number, options?: Abortable): Promise<Uint8Array | undefined> {
    const record = Buffer.alloc(RECORD)
    let low = 0
    let high = this.#digests.size / RECORD
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      await this.#digests.read(middle * RECORD, record, options)
      const found = readU64(record, 0, 'block number')
      if (found === index) return record.subarray(8)
      if (found < index) low = middle + 1
      else high = middle
    }
    return undefined
  }
}

const damaged = (name: string, what: string): AgentError => new AgentError('INTEGRITY', `${name} ${what}.`, { subject: name })
