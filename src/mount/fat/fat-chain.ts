import { throwIfAborted, type Abortable } from '../../core/index.ts'
import type { FatShape } from '../volumes/fat-shape.ts'
import { damaged, type FatPages } from './fat-pages.ts'

/** A place of the chain is remembered every so many clusters: 64 KiB of memory for the largest file there can be. */
const MARK_EVERY = 1024

/** The cluster that follows `cluster`; undefined after the last one of a chain. INTEGRITY where the FAT says what no chain can. */
async function nextCluster(pages: FatPages, { bits, fat, fatBytes, clusters }: FatShape, cluster: number): Promise<number | undefined> {
  const at = bits === 12 ? Math.floor(cluster * 1.5) : (cluster * bits) / 8
  const width = bits === 32 ? 4 : 2
  if (at + width > fatBytes) throw damaged(`its FAT has no entry for cluster ${cluster}`)
  const bytes = await pages.bytes(fat + at, width)
  const whole = bits === 32 ? bytes.readUInt32LE(0) & 0x0fff_ffff : bytes.readUInt16LE(0)
  const entry = bits !== 12 ? whole : cluster % 2 === 0 ? whole & 0x0fff : whole >>> 4
  const most = bits === 32 ? 0x0fff_ffff : bits === 16 ? 0xffff : 0x0fff
  if (entry >= most - 7) return undefined
  if (entry < 2 || entry >= clusters + 2) throw damaged(`cluster ${cluster} is followed by ${entry}, which is none`)
  return entry
}

/** The clusters of one file or directory, in order, found as they are asked for. Memory is bounded, whatever their number. */
export class FatChain {
  readonly #pages: FatPages
  readonly #shape: FatShape
  /** Every `MARK_EVERY`th cluster that was met. */
  readonly #marks: number[]
  /** Where the last reader was: files are read from their beginning to their end. */
  #last: { readonly index: number; readonly cluster: number }

  constructor(pages: FatPages, shape: FatShape, first: number) {
    this.#pages = pages
    this.#shape = shape
    this.#marks = [first]
    this.#last = { index: 0, cluster: first }
  }

  /** The number of its `index`th cluster, from 0; undefined behind its end. INTEGRITY, CANCELED, errors of the source. */
  async cluster(index: number, options?: Abortable): Promise<number | undefined> {
    const mark = Math.min(Math.floor(index / MARK_EVERY), this.#marks.length - 1)
    const marked = { index: mark * MARK_EVERY, cluster: this.#marks[mark] ?? 0 }
    let at = this.#last.index <= index && this.#last.index > marked.index ? this.#last : marked
    if (at.cluster < 2 || at.cluster >= this.#shape.clusters + 2) throw damaged(`a chain begins with cluster ${at.cluster}, which is none`)
    while (at.index < index) {
      throwIfAborted(options)
      const cluster = await nextCluster(this.#pages, this.#shape, at.cluster)
      if (cluster === undefined) return undefined
      at = { index: at.index + 1, cluster }
      // Who walks beside another finds the same.
      if (at.index === this.#marks.length * MARK_EVERY) this.#marks.push(cluster)
    }
    this.#last = at
    return at.cluster
  }

  /** Where the bytes from `offset` on lie in the volume, and how many of `length` lie there in a row; undefined behind its end. */
  async run(
    offset: number,
    length: number,
    options?: Abortable,
  ): Promise<{ readonly offset: number; readonly length: number } | undefined> {
    const { data, clusterBytes } = this.#shape
    const index = Math.floor(offset / clusterBytes)
    const first = await this.cluster(index, options)
    if (first === undefined) return undefined
    const inside = offset - index * clusterBytes
    let row = clusterBytes - inside
    for (let more = 1; row < length; more++) {
      if ((await this.cluster(index + more, options)) !== first + more) break
      row += clusterBytes
    }
    return { offset: data + (first - 2) * clusterBytes + inside, length: Math.min(row, length) }
  }
}
