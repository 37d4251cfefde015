import { type Abortable, type BlockSource, SECTOR } from '../../core/index.ts'
import { TREE_ROOT, type TreeAttributes, type TreeEntry, type TreeToServe } from '../../fuse/index.ts'
import { type FatShape, readFatShape } from '../volumes/fat-shape.ts'
import { FatChain } from './fat-chain.ts'
import { ENTRY, type FatEntry, kindOfEntry, readEntry } from './fat-entry.ts'
import { LongName, placeable, shortName } from './fat-names.ts'
import { damaged, FatPages } from './fat-pages.ts'

/** What FAT allows a directory, bytes; one that goes on for ever ends here too. */
const MOST_DIRECTORY = 65_536 * ENTRY
/** Names of directories that were listed last. */
const MOST_NAMES = 131_072
const MOST_CHAINS = 64

/**
 * The files of a FAT12, FAT16 or FAT32 (docs/formats/fat.md), to be served. Reads as it is asked; its memory does not grow with the volume. A node is the place of
 * an entry in the volume, divided by 32. Errors: INTEGRITY (no FAT, or a damaged one), those of the source, which stays the caller's.
 */
export async function openFatTree(source: BlockSource): Promise<TreeToServe> {
  const boot = Buffer.alloc(SECTOR)
  if (source.size >= SECTOR) await source.read(0, boot)
  const shape = readFatShape(boot)
  if (shape === undefined) throw damaged('its first sector is none of a FAT')
  return new FatTree(source, shape)
}

class FatTree implements TreeToServe {
  readonly size: number
  readonly #source: BlockSource
  readonly #shape: FatShape
  readonly #pages: FatPages
  /** Directories that were listed last, by node. */
  readonly #listed = new Map<number, ReadonlyMap<string, TreeEntry>>()
  #kept = 0
  readonly #chains = new Map<number, FatChain>()

  constructor(source: BlockSource, shape: FatShape) {
    this.size = shape.clusters * shape.clusterBytes
    this.#source = source
    this.#shape = shape
    this.#pages = new FatPages(source)
  }

  async attributes(node: number): Promise<TreeAttributes> {
    return node === TREE_ROOT
      ? { ...DIRECTORY, size: this.#shape.clusterBytes, modified: new Date(0) }
      : this.#shown(await this.#entry(node))
  }

  async list(node: number, options?: Abortable): Promise<readonly TreeEntry[]> {
    return [...(await this.#names(node, options)).values()]
  }

  async find(node: number, name: string, options?: Abortable): Promise<TreeEntry | undefined> {
    return (await this.#names(node, options)).get(name)
  }

  async read(node: number, offset: number, into: Uint8Array, options?: Abortable): Promise<void> {
    const { cluster, size, directory } = await this.#entry(node)
    if (directory || offset + into.length > size) throw damaged(`nothing can be read at ${offset} of an entry of ${size} bytes`)
    const chain = this.#chain(cluster)
    for (let done = 0; done < into.length; ) {
      const run = await chain.run(offset + done, into.length - done, options)
      if (run === undefined) throw damaged(`a file of ${size} bytes ends before that`)
      if (run.offset + run.length > this.#source.size) throw damaged('a file lies beyond its end')
      await this.#source.read(run.offset, into.subarray(done, done + run.length), options)
      done += run.length
    }
  }

  #chain(first: number): FatChain {
    const chain = this.#chains.get(first) ?? new FatChain(this.#pages, this.#shape, first)
    this.#chains.delete(first)
    this.#chains.set(first, chain)
    const [oldest] = this.#chains.keys()
    if (oldest !== undefined && this.#chains.size > MOST_CHAINS) this.#chains.delete(oldest)
    return chain
  }

  async #entry(node: number): Promise<FatEntry> {
    const bytes = await this.#pages.bytes(node * ENTRY, ENTRY)
    if (kindOfEntry(bytes) !== 'file') throw damaged(`there is no file at ${node}`)
    return readEntry(bytes, this.#shape)
  }

  #shown({ directory, readOnly, size, modified }: FatEntry): TreeAttributes {
    const { clusterBytes } = this.#shape
    const permissions = readOnly ? 0o555 : 0o755
    if (directory) return { ...DIRECTORY, permissions, size: clusterBytes, modified }
    return { directory, size, allocated: Math.ceil(size / clusterBytes) * clusterBytes, modified, permissions }
  }

  /** What is in a directory, by name. */
  async #names(node: number, options?: Abortable): Promise<ReadonlyMap<string, TreeEntry>> {
    const names = this.#listed.get(node) ?? (await this.#read(node, options))
    this.#kept -= this.#listed.get(node)?.size ?? 0
    this.#listed.delete(node)
    this.#listed.set(node, names)
    this.#kept += names.size
    for (const [oldest, { size }] of this.#listed) {
      if (this.#kept <= MOST_NAMES || oldest === node) break
      this.#listed.delete(oldest)
      this.#kept -= size
    }
    return names
  }

  async #read(node: number, options?: Abortable): Promise<ReadonlyMap<string, TreeEntry>> {
    const entries = new Map<string, TreeEntry>()
    const long = new LongName()
    for await (const { place, bytes } of this.#entries(node, options)) {
      const kind = kindOfEntry(bytes)
      if (kind === 'end') break
      if (kind === 'long name') long.add(bytes)
      else if (kind !== 'file') long.clear()
      else {
        const name = placeable(long.take(bytes) ?? shortName(bytes), entries)
        entries.set(name, { ...this.#shown(readEntry(bytes, this.#shape)), name, node: place / ENTRY })
      }
    }
    return entries
  }

  /** The entries of a directory as they lie there. */
  async *#entries(node: number, options?: Abortable): AsyncGenerator<{ readonly place: number; readonly bytes: Buffer }> {
    const { bits, root, rootBytes, rootCluster, clusterBytes } = this.#shape
    if (node === TREE_ROOT && bits !== 32) {
      yield* this.#entriesAt(root, rootBytes)
      return
    }
    const entry = node === TREE_ROOT ? undefined : await this.#entry(node)
    if (entry?.directory === false) throw damaged(`there is no directory at ${node}`)
    const chain = this.#chain(entry?.cluster ?? rootCluster)
    for (let done = 0; done < MOST_DIRECTORY; done += clusterBytes) {
      const run = await chain.run(done, clusterBytes, options)
      if (run === undefined) return
      yield* this.#entriesAt(run.offset, run.length)
    }
    throw damaged('a directory is longer than any can be')
  }

  async *#entriesAt(offset: number, length: number): AsyncGenerator<{ readonly place: number; readonly bytes: Buffer }> {
    for (let at = 0; at < length; at += STEP) {
      const bytes = await this.#pages.bytes(offset + at, Math.min(STEP, length - at))
      for (let inside = 0; inside < bytes.length; inside += ENTRY)
        yield { place: offset + at + inside, bytes: bytes.subarray(inside, inside + ENTRY) }
    }
  }
}

const STEP = 32 * 1024
const DIRECTORY = { directory: true, allocated: 0, permissions: 0o755 } as const
