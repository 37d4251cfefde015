import { hash } from 'node:crypto'
import { type Abortable, AgentError, allEnded, type BlockSource, isAgentError } from '../core/index.ts'
import type { Backend, LoadOptions } from './backend.ts'
import { BlobFile } from './blob-file.ts'
import type { BlobLocation } from './blob-index.ts'
import { type BlobType, DATA, plainLength, TREE } from './blob-records.ts'
import { BlockCache } from './block-cache.ts'
import type { Ciphers } from './ciphers.ts'
import { idBytes, idHex } from './ids.ts'
import type { IndexStore } from './index-store.ts'
import type { BlobToOpen, PackedBlob } from './packed-blob.ts'
import { type ReadEngine, sumOf } from './read-engine.ts'
import type { BlobReader, BlockToRead, BlockToWrite } from './repository.ts'
import type { RepositoryIndex } from './repository-index.ts'
import { type SealKey, unseal } from './sealing.ts'
import { parseTree, type TreeNode } from './tree.ts'
import type { ZstdCodec } from './zstd-codec.ts'

/** Larger blobs are refused: restic's own are at most 8 MiB, trees seldom more than a few. */
export const MAX_BLOB_BYTES = 256 * 1024 * 1024

/** Sealed bytes of blobs in packs that are still being written. */
export type PendingBlobs = (pack: number, offset: number, length: number) => Buffer | undefined

/** What opens blobs: key and the ways this Node has to decrypt and decompress. */
export type BlobOpener = { readonly key: SealKey; readonly codec: ZstdCodec; readonly ciphers: Ciphers }

/** Opens a blob: MAC, bounded decompression, SHA-256. `owned`: `sealed` may be overwritten. INTEGRITY naming blob and pack. */
export function openBlob(
  { key, codec, ciphers }: BlobOpener,
  sealed: Uint8Array,
  location: BlobLocation,
  id: Uint8Array,
  pack: string,
  owned = false,
): Buffer {
  const name = idHex(id)
  const what = `blob ${name} in pack ${pack}`
  let plain = unseal(key, sealed, what, ciphers, owned)
  if (location.uncompressedLength !== 0) {
    if (location.uncompressedLength > MAX_BLOB_BYTES)
      throw new AgentError('INTEGRITY', `The ${what} claims a size that is not accepted.`, { subject: pack })
    const bytes = codec.decompress(plain, location.uncompressedLength)
    if (bytes === undefined) throw new AgentError('INTEGRITY', `The ${what} cannot be decompressed.`, { subject: pack })
    plain = bytes
  }
  if (hash('sha256', plain) !== name) throw new AgentError('INTEGRITY', `The ${what} does not hold what its id says.`, { subject: pack })
  return plain
}

export type BlobStoreParts = {
  readonly backend: Backend
  readonly index: IndexStore
  readonly opener: BlobOpener
  readonly pending: PendingBlobs
  readonly engine: ReadEngine
  readonly cacheBytes: number
}

/** Reads blobs, trees and files through a bounded cache of decompressed blocks. */
export class BlobStore implements BlobReader {
  readonly #parts: BlobStoreParts
  readonly #cache: BlockCache

  constructor(parts: BlobStoreParts) {
    this.#parts = parts
    this.#cache = new BlockCache(parts.cacheBytes)
  }

  read(id: Uint8Array, options?: Abortable): Promise<Uint8Array> {
    return this.#cache.get(idHex(id), () => this.#load(DATA, id, options))
  }

  async readBlocks(blocks: readonly BlockToRead[], options?: Abortable): Promise<void> {
    const { byPack, alone } = await this.#parts.index.ask((index) => this.#byPack(blocks, ({ into }) => into.length, index), options)
    const opened = [...byPack].map(async ([pack, list]) => {
      alone.push(...(await this.#openPack(pack, list, options)))
    })
    await allEnded(opened)
    for (const block of alone) await this.#readAlone(block, options)
  }

  async writeBlocks(blocks: readonly BlockToWrite[], descriptor: number, options?: Abortable): Promise<number | undefined> {
    const { byPack, alone } = await this.#parts.index.ask((index) => this.#byPack(blocks, ({ bytes }) => bytes, index), options)
    if (alone.length > 0) return undefined
    try {
      const written = await allEnded([...byPack].map(([pack, list]) => this.#parts.engine.write(pack, list, descriptor, options)))
      return sumOf(written)
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
      return undefined
    }
  }

  #byPack<B extends { readonly id: Uint8Array }>(
    blocks: readonly B[],
    lengthOf: (block: B) => number,
    index: RepositoryIndex,
  ): { readonly byPack: Map<string, (B & PackedBlob)[]>; readonly alone: B[] } {
    const byNumber = new Map<number, (B & PackedBlob)[]>()
    const alone: B[] = []
    for (const block of blocks) {
      const location = index.find(DATA, block.id)
      const length = lengthOf(block)
      // What is not known yet, lies in a pack under way, or is unlike what is wanted has its own way, which also says what is wrong.
      const usual = location !== undefined && plainLength(location) === length && length <= this.#parts.engine.blockSize
      if (!usual || this.#parts.pending(location.pack, location.offset, 0) !== undefined) {
        alone.push(block)
        continue
      }
      const list = byNumber.get(location.pack)
      const packed = { ...block, offset: location.offset, length: location.length, uncompressedLength: location.uncompressedLength }
      if (list === undefined) byNumber.set(location.pack, [packed])
      else list.push(packed)
    }
    const byPack = new Map<string, (B & PackedBlob)[]>()
    for (const [pack, list] of byNumber) {
      const name = index.packId(pack).toString('hex')
      byPack.set(name, [...(byPack.get(name) ?? []), ...list])
    }
    for (const list of byPack.values()) list.sort((a, b) => a.offset - b.offset)
    return { byPack, alone }
  }

  /** Those that are to be looked for elsewhere: a prune moved them, or this copy is damaged. */
  async #openPack(pack: string, list: readonly BlobToOpen[], options?: Abortable): Promise<readonly BlobToOpen[]> {
    try {
      return await this.#parts.engine.open(pack, list, options)
    } catch (error) {
      if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
      return list
    }
  }

  async #readAlone({ id, into }: BlockToRead, options?: Abortable): Promise<void> {
    const blob = await this.#load(DATA, id, options)
    if (blob.length !== into.length) {
      throw new AgentError('INTEGRITY', `The data block ${idHex(id)} has ${blob.length} bytes; ${into.length} were expected.`)
    }
    into.set(blob)
  }

  async tree(id: string, options?: Abortable): Promise<readonly TreeNode[]> {
    return parseTree(await this.#load(TREE, idBytes(id, 'a tree id'), options), id)
  }

  async find(treeId: string, path: readonly string[], options?: Abortable): Promise<TreeNode | undefined> {
    let found: TreeNode | undefined
    let tree: string | undefined = treeId
    for (const name of path) {
      if (tree === undefined) return undefined
      found = (await this.tree(tree, options)).find((node) => node.name === name)
      tree = found?.subtree
    }
    return found
  }

  async openFile(node: TreeNode, options?: Abortable & { readonly blockBytes?: number | undefined }): Promise<BlockSource> {
    const content = node.content
    if (node.type !== 'file' || content === undefined) {
      throw new AgentError('USAGE', `${JSON.stringify(node.name)} is a ${node.type}, not a file.`)
    }
    if (options?.blockBytes !== undefined) return BlobFile.cut(node.name, node.size ?? 0, content, options.blockBytes, this)
    const lengths = new Float64Array(content.length)
    let number = 0
    const look = (index: RepositoryIndex): boolean => {
      for (; number < content.length; number++) {
        const location = index.find(DATA, content.at(number))
        if (location === undefined) return false
        lengths[number] = plainLength(location)
      }
      return true
    }
    while (!(await this.#parts.index.ask(look, options))) {
      const unknown = number
      await this.#parts.index.refresh(options)
      if (!(await this.#parts.index.ask(look, options)) && number === unknown) throw missing(DATA, content.at(number), this.#parts.backend)
    }
    return BlobFile.open(node.name, node.size ?? 0, content, lengths, this)
  }

  /** Lengths come from the index; a location that has become wrong (a prune meanwhile) is looked up once more. */
  async #load(type: BlobType, id: Uint8Array, options?: Omit<LoadOptions, 'range'>): Promise<Buffer> {
    try {
      return await this.#loadFrom(type, id, options)
    } catch (error) {
      if (!isAgentError(error, 'NOT_FOUND')) throw error
    }
    await this.#parts.index.refresh(options)
    try {
      return await this.#loadFrom(type, id, options)
    } catch (error) {
      throw isAgentError(error, 'NOT_FOUND') ? missing(type, id, this.#parts.backend, error) : error
    }
  }

  /** Tries every place the blob lies in; NOT_FOUND when there is none or no pack of it exists. */
  async #loadFrom(type: BlobType, id: Uint8Array, options?: Omit<LoadOptions, 'range'>): Promise<Buffer> {
    let failure: AgentError = new AgentError('NOT_FOUND', `The index does not know blob ${idHex(id)}.`)
    // Asked at once: a pack that is being written gets its id when it is not pending any more.
    const places = (index: RepositoryIndex) =>
      index.findAll(type, id).map((location) => ({
        location,
        pack: index.packId(location.pack).toString('hex'),
        pending: this.#parts.pending(location.pack, location.offset, location.length),
      }))
    for (const { location, pack, pending } of await this.#parts.index.ask(places, options)) {
      try {
        const range = { offset: location.offset, length: location.length }
        const sealed = pending ?? (await this.#parts.backend.load({ kind: 'data', name: pack }, { ...options, range }))
        return openBlob(this.#parts.opener, sealed, location, id, pack, true)
      } catch (error) {
        if (!isAgentError(error, 'INTEGRITY', 'NOT_FOUND')) throw error
        if (failure.code === 'NOT_FOUND') failure = error
      }
    }
    throw failure
  }
}

function missing(type: BlobType, id: Uint8Array, backend: Backend, cause?: unknown): AgentError {
  const what = type === TREE ? 'tree' : 'data block'
  return new AgentError('INTEGRITY', `The ${what} ${idHex(id)} is missing from the repository ${backend.url}.`, {
    subject: idHex(id),
    next: 'Run "vcb check" to see which restore points are affected, and take a new full backup of those machines.',
    cause,
  })
}
