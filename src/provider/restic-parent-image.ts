import { type Abortable, AgentError } from '../core/index.ts'
import type { BlobIds, BlobReader, TreeNode } from '../restic/index.ts'
import { EXTENT_FILE, extentDirectory, type ImageLayout } from './image-layout.ts'

/** A disk's image in the parent point, as far as an incremental reuses it. Nothing is handed out that the repository's index does not hold. */
export interface ParentImage {
  /** Blob ids of an extent; a list of the caller's own. INTEGRITY. */
  contentOf(index: number, options: Abortable): Promise<BlobIds>
  /** The node of an extent that did not change, to be stored as it is. INTEGRITY. */
  reuse(index: number, options: Abortable): Promise<TreeNode>
}

/** The image stands in the parent's VM directory as `node`. INTEGRITY when it is not cut the way `layout` wants it. */
export async function openParentImage(
  blobs: BlobReader,
  node: TreeNode | undefined,
  name: string,
  layout: ImageLayout,
  options: Abortable,
): Promise<ParentImage> {
  if (node === undefined) throw damaged('has no image of the disk')
  if (layout.extentBytes === undefined) return new SingleExtent(blobs, { ...node, name }, layout)
  if (node.type !== 'dir' || node.subtree === undefined) throw damaged('has no directory of extents')
  const extents = await blobs.tree(node.subtree, options)
  const byName = new Map(extents.map((extent) => [extent.name, extent]))
  const ordered = Array.from({ length: layout.count }, (_, index) => byName.get(extentDirectory(index)))
  return new SeveralExtents(blobs, ordered, layout)
}

class SingleExtent implements ParentImage {
  readonly #blobs: BlobReader
  readonly #node: TreeNode
  readonly #layout: ImageLayout

  constructor(blobs: BlobReader, node: TreeNode, layout: ImageLayout) {
    this.#blobs = blobs
    this.#node = node
    this.#layout = layout
  }

  contentOf(_index: number, options: Abortable): Promise<BlobIds> {
    return present(this.#blobs, this.#node, this.#layout.size, this.#layout, options)
  }

  async reuse(_index: number, options: Abortable): Promise<TreeNode> {
    await present(this.#blobs, this.#node, this.#layout.size, this.#layout, options)
    return this.#node
  }
}

class SeveralExtents implements ParentImage {
  readonly #blobs: BlobReader
  readonly #extents: readonly (TreeNode | undefined)[]
  readonly #layout: ImageLayout
  /** Trees already found complete: the empty extents of a disk share one. */
  readonly #sound = new Set<string>()

  constructor(blobs: BlobReader, extents: readonly (TreeNode | undefined)[], layout: ImageLayout) {
    this.#blobs = blobs
    this.#extents = extents
    this.#layout = layout
  }

  async contentOf(index: number, options: Abortable): Promise<BlobIds> {
    const subtree = this.#subtree(index)
    const file = (await this.#blobs.tree(subtree, options)).find(({ name }) => name === EXTENT_FILE)
    if (file === undefined) throw damaged(`has no file in extent ${index + 1}`)
    const size = this.#layout.sizeOf(index)
    const content = await present(this.#blobs, file, size, this.#layout, options)
    this.#sound.add(`${subtree}/${size}`)
    return content
  }

  async reuse(index: number, options: Abortable): Promise<TreeNode> {
    const node = this.#extents[index]
    const subtree = this.#subtree(index)
    if (!this.#sound.has(`${subtree}/${this.#layout.sizeOf(index)}`)) await this.contentOf(index, options)
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
  blobs: BlobReader,
  file: TreeNode,
  size: number,
  { blockBytes }: Pick<ImageLayout, 'blockBytes'>,
  options: Abortable,
): Promise<BlobIds> {
  if (file.type !== 'file' || file.size !== size || file.content?.length !== Math.ceil(size / blockBytes)) {
    throw damaged(`keeps ${file.name} in another size or in other blocks`)
  }
  await using opened = await blobs.openFile(file, options)
  if (opened.size !== size) throw damaged(`has ${opened.size} bytes in ${file.name} instead of ${size}`)
  return file.content.copy()
}

const damaged = (what: string): AgentError =>
  new AgentError('INTEGRITY', `The parent point ${what}, so its blocks cannot be reused.`, { next: 'Take a full backup of this disk.' })
