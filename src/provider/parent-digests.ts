import { type Abortable, AgentError } from '../core/index.ts'
import { type BlobIds, ID_BYTES } from '../restic/index.ts'
import type { ImageLayout } from './image-layout.ts'
import type { ParentDigests } from './provider.ts'
import type { ParentImage } from './restic-parent-image.ts'

/**
 * The ids of an image's blobs as digests of the disk's blocks: a blob's id is the SHA-256 of its bytes, and extents are whole blocks but the last
 * (docs/formats/restore-point.md). Holds the ids of one extent.
 */
export function imageDigests(image: ParentImage, layout: ImageLayout): ParentDigests {
  const { blockBytes } = layout
  const perExtent = Math.ceil((layout.extentBytes ?? layout.size) / blockBytes)
  const blocks = Math.ceil(layout.size / blockBytes)
  let held: { readonly index: number; readonly ids: BlobIds } | undefined
  const idsOf = async (index: number, options: Abortable): Promise<BlobIds> => {
    if (held?.index !== index) held = { index, ids: await image.contentOf(index, options) }
    return held.ids
  }
  return {
    blockSize: blockBytes,
    of: async (first, count, options = {}) => {
      if (first < 0 || count < 0 || first + count > blocks) {
        throw new AgentError('INTERNAL', `Digests of blocks ${first} to ${first + count} were asked for; the disk has ${blocks}.`)
      }
      const digests = new Uint8Array(count * ID_BYTES)
      for (let at = 0; at < count; ) {
        const index = Math.floor((first + at) / perExtent)
        const ids = await idsOf(index, options)
        for (const end = Math.min(count, (index + 1) * perExtent - first); at < end; at++) {
          digests.set(ids.at(first + at - index * perExtent), at * ID_BYTES)
        }
      }
      return digests
    },
  }
}
