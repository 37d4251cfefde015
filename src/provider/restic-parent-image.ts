import { hash } from 'node:crypto'
import { type Abortable, AgentError } from '../core/index.ts'
import type { BlobIds, BlobReader, Complete, TreeNode } from '../restic/index.ts'
import { EXTENT_FILE, extentDirectory, type ImageLayout } from './image-layout.ts'

/** A disk's image in the parent point, as far as an incremental reuses it. Nothing is handed out that the repository's index does not hold. */
export interface ParentImage {
  /** Blob ids of an extent; a list of the caller's own. INTEGRITY. */
  contentOf(index: number, options: Abortable): Promise<BlobIds>
  /** The node of an extent that did not change, to be stored as it is. INTEGRITY. */
  reuse(index: number, options: Abortable): Promise<TreeNode>
}

/** What is found complete once need not be looked up again: the keys of an extent of a large disk, and of a list of blocks. */
export const extentKey = (subtree: string, size: number, { blockBytes }: Pick<ImageLayout, 'blockBytes'>): string =>
  hash('sha256', `extent ${subtree} of ${size} in ${blockBytes}`)
export const contentKey = (content: BlobIds, size: number, { blockBytes }: Pick<ImageLayout, 'blockBytes'>): string =>
  hash('sha256', `blocks ${content.digest()} of ${size} in ${blockBytes}`)

/** The image stands in the parent's VM directory as `node`. INTEGRITY when it is not cut the way `layout` wants it. */
export async function openParentImage(
  { blobs, complete }: Parts,
  node: TreeNode | undefined,
  name: string,
  layout: ImageLayout,
  options: Abortable,
): Promise<ParentImage> {
  if (node === undefined) throw damaged('has no image of the disk')
  if (layout.extentBytes === undefined) return new SingleExtent({ blobs, complete }, { ...node, name }, layout)
  if (node.type !== 'dir' || node.subtree === undefined) throw damaged('has no directory of extents')
  const extents = await blobs.tree(node.subtree, options)
  const byName = new Map(extents.map((extent) => [extent.name, extent]))
  const ordered = Array.from({ length: layout.count }, (_, index) => byName.get(extentDirectory(index)))
  return new SeveralExtents({ blobs, complete }, ordered, layout)
}

type Parts = { readonly blobs: BlobReader; readonly complete: Complete }

class SingleExtent implements ParentImage {
  readonly #parts: Parts
  readonly #node: TreeNode
  readonly #layout: ImageLayout

  constructor(parts: Parts, node: TreeNode, layout: ImageLayout) {
    this.#parts = parts
    this.#node = node
    this.#layout = layout
  }

  contentOf(_index: number, options: Abortable): Promise<BlobIds> {
    return this.#content(options)
  }

  async reuse(_index: number, options: Abortable): Promise<TreeNode> {
    await this.#content(options)
    return this.#node
  }

  #content(options: Abortable): Promise<BlobIds> {
    const { size, ...layout } = this.#layout
    const { content } = this.#node
    return present(this.#parts, this.#node, size, layout, content && contentKey(content, size, layout), options)
  }
}

class SeveralExtents implements ParentImage {
  readonly #parts: Parts
  readonly #extents: readonly (TreeNode | undefined)[]
  readonly #layout: ImageLayout

  constructor(parts: Parts, extents: readonly (TreeNode | undefined)[], layout: ImageLayout) {
    this.#parts = parts
    this.#extents = extents
    this.#layout = layout
  }

  async contentOf(index: number, options: Abortable): Promise<BlobIds> {
    const subtree = this.#subtree(index)
    const file = (await this.#parts.blobs.tree(subtree, options)).find(({ name }) => name === EXTENT_FILE)
    if (file === undefined) throw damaged(`has no file in extent ${index + 1}`)
    const size = this.#layout.sizeOf(index)
    return await present(this.#parts, file, size, this.#layout, extentKey(subtree, size, this.#layout), options)
  }

  async reuse(index: number, options: Abortable): Promise<TreeNode> {
    const node = this.#extents[index]
    const subtree = this.#subtree(index)
    // The tree need not even be read then: so much of a large disk that did not change costs nothing.
    if (!this.#parts.complete.has(extentKey(subtree, this.#layout.sizeOf(index), this.#layout))) await this.contentOf(index, options)
    if (node === undefined) throw damaged(`has no extent ${index + 1}`)
    return node
  }

  #subtree(index: number): string {
    const subtree = this.#extents[index]?.subtree
    if (subtree === undefined) throw damaged(`has no extent ${index + 1}`)
    return subtree
  }
}

/** The ids of a file after checking its size and that the index knows every one of them, as restic does before it reuses a file. */
async function present(
  { blobs, complete }: Parts,
  file: TreeNode,
  size: number,
  { blockBytes }: Pick<ImageLayout, 'blockBytes'>,
  key: string | undefined,
  options: Abortable,
): Promise<BlobIds> {
  if (file.type !== 'file' || file.size !== size || file.content?.length !== Math.ceil(size / blockBytes)) {
    throw damaged(`keeps ${file.name} in another size or in other blocks`)
  }
  if (key === undefined || !complete.has(key)) {
    await using opened = await blobs.openFile(file, options)
    if (opened.size !== size) throw damaged(`has ${opened.size} bytes in ${file.name} instead of ${size}`)
    if (key !== undefined) complete.add(key)
  }
  return file.content.copy()
}

const damaged = (what: string): AgentError =>
  new AgentError('INTEGRITY', `The parent point ${what}, so its blocks cannot be reused.`, { next: 'Take a full backup of this disk.' })
