import { type Abortable, type BlockSource, type Range, rangeEnd } from '../core/index.ts'
import { ahead, type Place, type PlacedSource } from '../disk/index.ts'
import type { BlockDigest } from './transport.ts'

/** Blocks asked for at once; a question is a line of text, so that more of them cost nothing but the far side's patience. */
const AT_ONCE = 48
/** A block scattered over more places than this is not worth the question: it is read. */
const MOST_PLACES = 1024

/** SHA-256 of bytes that lie in `places`, back to back, computed where the files are. */
export type PlacesDigest = (places: readonly Place[], options?: Abortable) => Promise<Uint8Array>

/** `OpenDisk.digests` of a chain whose files lie where `digestOf` hashes; undefined when a link does not know where its bytes lie. */
export function chainDigests(chain: PlacedSource, digestOf: PlacesDigest) {
  const { places } = chain
  if (places === undefined) return undefined
  const digest = async ({ offset, length, zero }: Block, options?: Abortable): Promise<BlockDigest> => {
    if (zero) return { offset, length, kind: 'zero' }
    const found: Place[] = []
    for await (const place of places({ offset, length }, options)) {
      if (found.length === MOST_PLACES) return { offset, length, kind: 'undecided' }
      found.push(place)
    }
    return { offset, length, kind: 'digest', sha256: await digestOf(found, options) }
  }
  return (range: Range, blockSize: number, options?: Abortable): AsyncIterable<BlockDigest> =>
    ahead(blocksOf(chain, range, blockSize, options), AT_ONCE, (block) => digest(block, options))
}

type Block = Range & { readonly zero: boolean }

/** The blocks of `range`, each with whether the source's map calls all of it zero. */
async function* blocksOf(source: BlockSource, range: Range, blockSize: number, options?: Abortable): AsyncGenerator<Block> {
  let offset = range.offset
  let zero = true
  const ends = (): number => Math.min(offset + blockSize, rangeEnd(range))
  for await (const extent of source.extents(range, options)) {
    while (offset < rangeEnd(extent)) {
      if (extent.kind !== 'zero') zero = false
      if (rangeEnd(extent) < ends()) break
      yield { offset, length: ends() - offset, zero }
      offset = ends()
      zero = true
    }
  }
}
